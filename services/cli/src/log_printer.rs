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

    /// What was printed to.
    #[cfg(test)]
    pub fn into_inner(self) -> W {
        self.out
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> LogPrinter<Vec<u8>> {
        LogPrinter::new(Vec::new(), None, false)
    }

    fn terminal() -> LogPrinter<Vec<u8>> {
        LogPrinter::new(Vec::new(), None, true)
    }

    fn prefixed() -> LogPrinter<Vec<u8>> {
        LogPrinter::new(Vec::new(), Some("fedora-44-x86_64".to_owned()), false)
    }

    fn text(printer: &LogPrinter<Vec<u8>>) -> String {
        String::from_utf8(printer.out.clone()).unwrap()
    }

    #[test]
    fn a_pipe_gets_every_byte_as_it_is() {
        let mut printer = pipe();
        let bytes = b"a\x1b[31m\xff\r\nrest without an end";
        printer.write(bytes).unwrap();
        printer.finish().unwrap();
        assert_eq!(printer.out, bytes);
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let mut printer = terminal();
        printer.write(b"a\x1b[2J\tb\r\n").unwrap();
        assert_eq!(text(&printer), "a\u{fffd}[2J\tb\n");
    }

    #[test]
    fn a_character_that_arrives_in_two_parts_is_whole_on_a_terminal() {
        let mut printer = terminal();
        printer.write(b"gr\xc3").unwrap();
        assert_eq!(text(&printer), "");
        printer.write(b"\xbcn\n").unwrap();
        assert_eq!(text(&printer), "grün\n");
    }

    #[test]
    fn each_line_has_the_prefix_once_however_it_arrives() {
        let mut printer = prefixed();
        for part in ["on", "e\ntwo\nth", "ree"] {
            printer.write(part.as_bytes()).unwrap();
        }
        printer.finish().unwrap();
        assert_eq!(
            text(&printer),
            "fedora-44-x86_64: one\nfedora-44-x86_64: two\nfedora-44-x86_64: three\n"
        );
    }

    #[test]
    fn a_note_ends_the_line_before_it() {
        let mut printer = prefixed();
        printer.write(b"no end").unwrap();
        printer.note("attempt 2 on b1").unwrap();
        assert_eq!(
            text(&printer),
            "fedora-44-x86_64: no end\nfedora-44-x86_64: -- attempt 2 on b1 --\n"
        );
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_without_bound() {
        let mut printer = terminal();
        for _ in 0..20 {
            printer.write(&[b'x'; 10_000]).unwrap();
        }
        assert!(printer.line.len() <= LONGEST_LINE + 10_000);
        assert!(printer.out.len() > 100_000);
    }

    #[test]
    fn finishing_twice_prints_nothing_more() {
        let mut printer = prefixed();
        printer.write(b"a").unwrap();
        printer.finish().unwrap();
        printer.finish().unwrap();
        assert_eq!(text(&printer), "fedora-44-x86_64: a\n");
    }

    #[test]
    fn a_reader_who_left_ends_the_log() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let error = LogPrinter::new(Closed, None, false)
            .write(b"a")
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot write the log");
    }
}
