//! Files that are source packages, and files that only look like some.

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
    check(file.path())
        .map(drop)
        .map_err(|error| error.to_string())
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

fn source(excluded: &[&str], exclusive: &[&str]) -> Source {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    Source {
        excluded: words(excluded),
        exclusive: words(exclusive),
    }
}

#[test]
fn architectures_are_refused_by_either_list() {
    assert_eq!(source(&[], &[]).refusal("x86_64"), None);
    let excluded = source(&["s390x", "i686"], &[]);
    assert_eq!(excluded.refusal("x86_64"), None);
    assert_eq!(excluded.refusal("i386").unwrap(), "ExcludeArch: s390x i686");
    let exclusive = source(&[], &["x86_64", "noarch"]);
    assert_eq!(exclusive.refusal("x86_64"), None);
    assert_eq!(
        exclusive.refusal("aarch64").unwrap(),
        "ExclusiveArch: x86_64 noarch"
    );
    assert_eq!(source(&[], &["noarch"]).refusal("aarch64"), None);
}

#[test]
fn lists_of_architectures_are_read_from_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let list = |count: u32| -> Vec<u8> {
        [EXCLUDE_ARCH, STRINGS, 2, count]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect()
    };
    let read = |count| {
        std::fs::write(&path, header_bytes(&[list(count)], b"x\0s390x\0ppc64le\0")).unwrap();
        let mut file = File::open(&path).unwrap();
        let actual = file.metadata().unwrap().len();
        let header = header(&mut file, 0, actual).unwrap();
        header.strings(&mut file, EXCLUDE_ARCH).unwrap()
    };
    assert_eq!(read(2), ["s390x", "ppc64le"]);
    assert_eq!(read(u32::MAX), Vec::<String>::new(), "a damaged count");
}
