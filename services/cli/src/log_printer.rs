//! Writes log bytes for a reader: unchanged into a pipe, without control characters on a terminal, and with the chroot
//! in front of each line where several logs share the output.

use std::io::{IsTerminal, Stdout, Write};

use anyhow::Context;

use crate::render::text::sanitize;

/// A line without an end is written in pieces of about this many bytes, so that memory stays bounded.
const LONGEST_LINE: usize = 64 * 1024;

/// The output of one task's logs.
#[derive(Debug)]
pub struct LogPrinter<W> {
    out: W,
    prefix: Option<String>,
    is_terminal: bool,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

impl LogPrinter<Stdout> {
    /// Prints to stdout, with `prefix` and a colon in front of each line.
    pub fn stdout(prefix: Option<String>) -> Self {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        Self::new(stdout, prefix, is_terminal)
    }
}

impl<W: Write> LogPrinter<W> {
    /// Prints to `out`.
    pub const fn new(out: W, prefix: Option<String>, is_terminal: bool) -> Self {
        Self {
            out,
            prefix,
            is_terminal,
            line: Vec::new(),
        }
    }

    /// Writes bytes of a log as they arrive.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.prefix.is_none() && !self.is_terminal {
            return self.emit(bytes);
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LONGEST_LINE {
                self.write_line()?;
            }
        }
        Ok(())
    }

    /// Writes a remark of this program between two logs.
    pub fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.finish()?;
        self.write(format!("-- {text} --\n").as_bytes())
    }

    /// Writes a last line that has no end.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.line.is_empty() {
            Ok(())
        } else {
            self.write_line()
        }
    }

    fn write_line(&mut self) -> anyhow::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text = sanitize(&String::from_utf8_lossy(&line));
        let text = text.trim_end_matches('\n');
        let line = match &self.prefix {
            Some(prefix) => format!("{prefix}: {text}\n"),
            None => format!("{text}\n"),
        };
        self.emit(line.as_bytes())
    }

    fn emit(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out
            .write_all(bytes)
            .and_then(|()| self.out.flush())
            .context("cannot write the log")
    }
}
