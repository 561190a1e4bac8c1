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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_a_line_of_its_own_and_text_is_not_made_for_it() {
        let value = json!({"id": 7});
        let printed = Output::from_flag(true).choose(&value, || unreachable!());
        assert_eq!(printed, "{\"id\":7}\n");
    }

    #[test]
    fn text_is_printed_as_it_is() {
        let printed = Output::from_flag(false).choose(&json!({}), || "no builds\n".to_owned());
        assert_eq!(printed, "no builds\n");
    }
}
