//! Checks that a file is a whole source package, before a sandbox is started for it. Reads only the fixed beginning, the
//! lengths of the headers and the lists of architectures; everything else is read by rpm, in the sandbox.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const LEAD_SIZE: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];
/// The largest header, in bytes; rpm refuses larger ones too.
const HEADER_CAP: u64 = 256 << 20;
/// The most entries of a header; a header with more is called damaged.
const ENTRY_CAP: u32 = 65_536;

/// Tag in the signature header: size of header and payload together, in 32 bits.
const SIZE: u32 = 1000;
/// Tag in the signature header: the same size in 64 bits.
const LONG_SIZE: u32 = 270;
/// Tag that only the main header of a source package has.
const SOURCE_PACKAGE: u32 = 1106;

/// Lists of architectures (rpm's tag numbers, include/rpm/rpmtag.h).
const EXCLUDE_ARCH: u32 = 1059;
const EXCLUSIVE_ARCH: u32 = 1061;
/// The type of a list of strings, each ended by a zero byte.
const STRINGS: u32 = 8;
/// The longest list that is read as one of architectures, in strings.
const WORDS_CAP: u32 = 200;
/// The longest list that is read as one of architectures, in bytes.
const WORDS_BYTES: u64 = 8192;

/// Why a file cannot be built as a source package.
#[derive(Debug, thiserror::Error)]
pub enum SrpmError {
    /// The file is something else; the text says what.
    #[error("the file is no RPM package: {0}")]
    NotRpm(&'static str),
    /// An RPM package, but a binary one.
    #[error("the file is a binary package, not a source package (.src.rpm)")]
    Binary,
    /// The file is shorter than its headers say.
    #[error("the source package is truncated: it has {actual} bytes and should have {expected}")]
    Truncated {
        /// The least size by the headers, in bytes.
        expected: u64,
        /// The size of the file, in bytes.
        actual: u64,
    },
    /// The spooled file cannot be read.
    #[error("cannot read the fetched source: {0}")]
    Io(#[from] io::Error),
}

/// What the header of a source package says about architectures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `ExcludeArch`: architectures for which it must not be built.
    pub excluded: Vec<String>,
    /// `ExclusiveArch`: the only architectures for which it may be built; empty for all.
    pub exclusive: Vec<String>,
}

impl Source {
    /// Why the package is not built for an architecture, given as chroot names spell it; none when it is.
    pub fn refusal(&self, arch: &str) -> Option<String> {
        let names = |list: &[String]| list.iter().any(|name| is_same(name, arch));
        if names(&self.excluded) {
            return Some(format!("ExcludeArch: {}", self.excluded.join(" ")));
        }
        // A package that is noarch and exclusive names noarch beside the architectures it runs on.
        let is_open = self.exclusive.is_empty() || self.exclusive.iter().all(|a| a == "noarch");
        (!is_open && !names(&self.exclusive))
            .then(|| format!("ExclusiveArch: {}", self.exclusive.join(" ")))
    }
}

/// Whether a package's architecture is a chroot's: chroots are named after the base architecture, packages after the
/// processor (rpm 4.20, rpmrc).
fn is_same(package: &str, chroot: &str) -> bool {
    package == chroot
        || match chroot {
            "i386" => matches!(package, "i486" | "i586" | "i686" | "athlon"),
            "armhfp" => matches!(package, "armv7hl" | "armv7hnl"),
            "x86_64" => matches!(package, "amd64" | "ia32e"),
            _ => false,
        }
}

/// Checks a file and reads its lists of architectures. Blocks on the disk.
pub fn check(path: &Path) -> Result<Source, SrpmError> {
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
    Ok(Source {
        excluded: main.strings(&mut file, EXCLUDE_ARCH)?,
        exclusive: main.strings(&mut file, EXCLUSIVE_ARCH)?,
    })
}

/// The first 16 bytes, fewer where the file is shorter.
fn beginning(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(16).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names what people send by mistake in place of a package.
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

/// Offsets of a header's entries and data in the file, in bytes.
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

/// One entry of a header's index: the type of a tag's data, and where the data is.
struct Entry {
    kind: u32,
    offset: u32,
    count: u32,
}

impl Header {
    /// The offset of a tag's data within the header's data; none when the header does not have the tag.
    fn find(&self, file: &mut File, tag: u32) -> io::Result<Option<u32>> {
        Ok(self.entry(file, tag)?.map(|entry| entry.offset))
    }

    fn entry(&self, file: &mut File, tag: u32) -> io::Result<Option<Entry>> {
        file.seek(SeekFrom::Start(self.entries_at))?;
        let mut index = io::BufReader::new(file.take(u64::from(self.entries) * 16));
        let mut entry = [0; 16];
        for _ in 0..self.entries {
            index.read_exact(&mut entry)?;
            if be32(&entry[..4]) == tag {
                return Ok(Some(Entry {
                    kind: be32(&entry[4..8]),
                    offset: be32(&entry[8..12]),
                    count: be32(&entry[12..]),
                }));
            }
        }
        Ok(None)
    }

    /// A tag's list of strings; empty when the header does not have the tag, or it is no list of architectures.
    fn strings(&self, file: &mut File, tag: u32) -> io::Result<Vec<String>> {
        let Some(entry) = self.entry(file, tag)? else {
            return Ok(Vec::new());
        };
        let at = self.data_at + u64::from(entry.offset);
        if entry.kind != STRINGS || entry.count > WORDS_CAP || at >= self.end {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.take(WORDS_BYTES.min(self.end - at))
            .read_to_end(&mut bytes)?;
        Ok(bytes
            .split(|byte| *byte == 0)
            .take(entry.count as usize)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect())
    }

    /// The size of what follows the signature header, in bytes; none when the header does not say.
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
pub(crate) mod tests;
