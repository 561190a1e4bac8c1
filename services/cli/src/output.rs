//! What a command prints to stdout: the server's JSON with `--json`, text otherwise.

use serde_json::Value;

/// Which of the two forms was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

impl Output {
    /// The form that `--json` chooses.
    pub const fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Whether JSON was asked for.
    pub const fn is_json(self) -> bool {
        match self {
            Self::Json => true,
            Self::Text => false,
        }
    }

    /// Prints the JSON on a line of its own, or the text as it is.
    pub fn print(self, json: &Value, text: impl FnOnce() -> String) {
        print!("{}", self.choose(json, text));
    }

    fn choose(self, json: &Value, text: impl FnOnce() -> String) -> String {
        match self {
            Self::Json => format!("{json}\n"),
            Self::Text => text(),
        }
    }
}
