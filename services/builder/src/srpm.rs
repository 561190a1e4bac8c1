//! Tells whether a file is a whole source package, before a sandbox is spent on it. Only the fixed beginning and
//! the headers' own lengths are read; what is inside is for rpm, in the sandbox.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const LEAD_SIZE: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];
/// Headers beyond this are refused by rpm too.
const HEADER_CAP: u64 = 256 << 20;
/// Entries of a header that are looked at.
const ENTRY_CAP: u32 = 65_536;

/// Size of header and payload together, in the signature header.
const SIZE: u32 = 1000;
const LONG_SIZE: u32 = 270;
/// Present in the main header of a source package.
const SOURCE_PACKAGE: u32 = 1106;

/// Why a file is no source package that could be built.
#[derive(Debug, thiserror::Error)]
pub enum SrpmError {
    /// Something else altogether.
    #[error("the file is no RPM package: {0}")]
    NotRpm(&'static str),
    /// A binary package.
    #[error("the file is a binary package, not a source package (.src.rpm)")]
    Binary,
    /// It ends too early.
    #[error("the source package is truncated: it has {actual} bytes and should have {expected}")]
    Truncated {
        /// Bytes there should be, at least.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The spooled file cannot be read.
    #[error("cannot read the fetched source: {0}")]
    Io(#[from] io::Error),
}

/// Checks a file; for a thread that may block.
pub fn check(path: &Path) -> Result<(), SrpmError> {
    let mut file = File::open(path)?;
    let actual = file.metadata()?.len();
    let lead = beginning(&mut file)?;
    if !lead.starts_with(&LEAD_MAGIC) {
        return Err(SrpmError::NotRpm(looks_like(&lead)));
    }
    let signature = header(&mut file, LEAD_SIZE, actual)?;
    // The signature header is padded to eight bytes.
    let main_start = signature.end.next_multiple_of(8);
    if let Some(size) = signature.size(&mut file)? {
        let expected = main_start.saturating_add(size);
        if actual < expected {
            return Err(SrpmError::Truncated { expected, actual });
        }
    }
    let main = header(&mut file, main_start, actual)?;
    let is_source = lead.get(7) == Some(&1) || main.find(&mut file, SOURCE_PACKAGE)?.is_some();
    if !is_source {
        return Err(SrpmError::Binary);
    }
    if actual <= main.end {
        return Err(SrpmError::Truncated {
            expected: main.end + 1,
            actual,
        });
    }
    Ok(())
}

/// The first bytes, as many as there are.
fn beginning(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(16).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A word for what people send by mistake.
fn looks_like(bytes: &[u8]) -> &'static str {
    let start = bytes.trim_ascii_start();
    match bytes {
        [] => "it is empty",
        _ if start.starts_with(b"<") => "it is a web page (HTML or XML)",
        [0x1f, 0x8b, ..] => "it is a gzip archive",
        [0xfd, b'7', b'z', ..] => "it is an xz archive",
        [b'B', b'Z', b'h', ..] => "it is a bzip2 archive",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is a zstd archive",
        [b'P', b'K', ..] => "it is a zip archive",
        _ if bytes.iter().all(|byte| byte.is_ascii() && *byte != 0) => "it is a text file",
        _ => "it does not begin like one",
    }
}

/// Where a header's entries and data lie.
struct Header {
    entries_at: u64,
    entries: u32,
    data_at: u64,
    end: u64,
}

fn header(file: &mut File, start: u64, actual: u64) -> Result<Header, SrpmError> {
    let intro: [u8; 16] = read_at(file, start, actual)?;
    if intro[..3] != HEADER_MAGIC {
        return Err(SrpmError::NotRpm("its header is damaged"));
    }
    let entries = be32(&intro[8..12]);
    let data = be32(&intro[12..16]);
    let entries_at = start + 16;
    let data_at = entries_at + u64::from(entries) * 16;
    let end = data_at + u64::from(data);
    if end - start > HEADER_CAP || entries > ENTRY_CAP {
        return Err(SrpmError::NotRpm("its header is damaged"));
    }
    if end > actual {
        return Err(SrpmError::Truncated {
            expected: end,
            actual,
        });
    }
    Ok(Header {
        entries_at,
        entries,
        data_at,
        end,
    })
}

impl Header {
    /// The offset of a tag's data within the header's data.
    fn find(&self, file: &mut File, tag: u32) -> io::Result<Option<u32>> {
        file.seek(SeekFrom::Start(self.entries_at))?;
        let mut index = io::BufReader::new(file.take(u64::from(self.entries) * 16));
        let mut entry = [0; 16];
        for _ in 0..self.entries {
            index.read_exact(&mut entry)?;
            if be32(&entry[..4]) == tag {
                return Ok(Some(be32(&entry[8..12])));
            }
        }
        Ok(None)
    }

    /// Size of what follows the signature header, where it says so.
    fn size(&self, file: &mut File) -> Result<Option<u64>, SrpmError> {
        if let Some(offset) = self.find(file, LONG_SIZE)? {
            let bytes: [u8; 8] = read_at(file, self.data_at + u64::from(offset), self.end)?;
            return Ok(Some(u64::from_be_bytes(bytes)));
        }
        if let Some(offset) = self.find(file, SIZE)? {
            let bytes: [u8; 4] = read_at(file, self.data_at + u64::from(offset), self.end)?;
            return Ok(Some(u32::from_be_bytes(bytes).into()));
        }
        Ok(None)
    }
}

/// Reads a fixed piece that must end before `end`.
fn read_at<const N: usize>(file: &mut File, at: u64, end: u64) -> Result<[u8; N], SrpmError> {
    let expected = at.saturating_add(N as u64);
    if expected > end {
        return Err(SrpmError::Truncated {
            expected,
            actual: end,
        });
    }
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entry(tag: u32, offset: u32) -> Vec<u8> {
        [tag, 4, offset, 1]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    fn header_bytes(entries: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        bytes.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(entries.concat());
        bytes.extend(data);
        bytes
    }

    fn package(kind: u8, main_entries: &[Vec<u8>]) -> Vec<u8> {
        let main = header_bytes(main_entries, &[0; 8]);
        let payload = [7; 100];
        let size = u32::try_from(main.len() + payload.len()).unwrap();
        let mut bytes = vec![0; 96];
        bytes[..4].copy_from_slice(&LEAD_MAGIC);
        bytes[4] = 3;
        bytes[7] = kind;
        bytes.extend(header_bytes(&[entry(SIZE, 0)], &size.to_be_bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(main);
        bytes.extend(payload);
        bytes
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        check(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_source_package_passes() {
        assert_eq!(checked(&package(1, &[])), Ok(()));
        assert_eq!(
            checked(&package(0, &[entry(SOURCE_PACKAGE, 0)])),
            Ok(()),
            "told by its header alone"
        );
    }

    #[test]
    fn a_package_that_ends_early_anywhere_is_called_truncated() {
        let whole = package(1, &[]);
        for length in 96..whole.len() {
            let error = checked(&whole[..length]).unwrap_err();
            assert!(error.contains("truncated"), "{length}: {error}");
        }
    }

    #[test]
    fn a_binary_package_is_called_one() {
        let error = checked(&package(0, &[])).unwrap_err();
        assert!(error.contains("binary package"), "{error}");
    }

    #[test]
    fn what_is_no_package_is_told_in_words() {
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"abc", "text file"),
            (b"<html>", "web page"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "gzip"),
            (b"Name: hello\nVersion: 1\n", "text file"),
            (&[0; 400], "does not begin"),
        ] {
            let error = checked(bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_header_that_lies_about_its_length_is_refused() {
        let mut bytes = package(1, &[]);
        bytes[96 + 8..96 + 12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(checked(&bytes).is_err());
    }
}
