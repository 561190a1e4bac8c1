//! Writes the archive of files that are put into a sandbox. The source and packages are streamed from disk: they may be larger
//! than the builder's memory.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use millrace_supervisor::{HOME, PACKAGES_DIR, PLAN_PATH, SOURCE_PATH, SUPERVISOR_PATH};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::error::SandboxError;
use crate::spec::SandboxFiles;

/// Size of a tar block, in bytes: headers and contents are padded to it.
const BLOCK: usize = 512;
/// Most that is read from a source or package at once, in bytes.
const PIECE: usize = 256 * 1024;

/// The archive, to be unpacked at the root.
pub(crate) async fn of_files(
    files: &SandboxFiles,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, SandboxError> {
    let supervisor = tokio::fs::read(&files.supervisor).await;
    let supervisor = supervisor.map_err(|error| SandboxError::file(&files.supervisor, error))?;
    let plan = serde_json::to_vec(&files.plan).map_err(|error| SandboxError::CreateFailed {
        doing: "writing its plan",
        reason: error.to_string(),
    })?;
    let mut head = supervisor_archive(&supervisor);
    head.extend(entry(PLAN_PATH, Kind::File(0o644), &plan));
    for (path, text) in &files.programs {
        head.extend(entry(path, Kind::File(0o644), text.as_bytes()));
    }
    let (source, tail) = match &files.source {
        Some(path) => {
            let (file, size) = open_source(path, files.max_source_bytes).await?;
            head.extend(header(SOURCE_PATH, Kind::File(0o644), size));
            (Some(exactly(file, size)), padding(size))
        }
        None => (None, 0),
    };
    Ok(once(Bytes::from(head))
        .chain(stream::iter(source).flatten())
        .chain(once(Bytes::from(vec![0; tail])))
        .chain(of_packages(files.packages.clone()))
        .chain(once(Bytes::from(vec![0; 2 * BLOCK]))))
}

/// The folder of packages that were built before; nothing where there are none.
fn of_packages(packages: Vec<PathBuf>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let folder = (!packages.is_empty()).then(|| entry(PACKAGES_DIR, Kind::Folder, &[]));
    let folder = stream::iter(folder.map(|bytes| Ok(Bytes::from(bytes))));
    let packages = stream::iter(packages.into_iter().enumerate())
        .then(|(number, path)| of_package(number, path))
        .try_flatten();
    folder.chain(packages)
}

async fn of_package(
    number: usize,
    path: PathBuf,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    let file = File::open(&path).await?;
    let size = file.metadata().await?.len();
    // A package's own name may be longer than an archive's entry takes; its header says what it is.
    let name = format!("{PACKAGES_DIR}/{number}.rpm");
    let head = Bytes::from(header(&name, Kind::File(0o644), size));
    let tail = Bytes::from(vec![0; padding(size)]);
    Ok(once(head).chain(exactly(file, size)).chain(once(tail)))
}

/// The beginning of an archive: our folder and the supervisor in it.
pub(crate) fn supervisor_archive(supervisor: &[u8]) -> Vec<u8> {
    let mut bytes = entry(HOME, Kind::Folder, &[]);
    bytes.extend(entry(SUPERVISOR_PATH, Kind::File(0o755), supervisor));
    bytes
}

fn once(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::once(async move { Ok(bytes) })
}

async fn open_source(path: &Path, cap: u64) -> Result<(File, u64), SandboxError> {
    let wrap = |error| SandboxError::file(path, error);
    let file = File::open(path).await.map_err(wrap)?;
    let size = file.metadata().await.map_err(wrap)?.len();
    if size > cap {
        return Err(SandboxError::SourceTooLarge { size, cap });
    }
    Ok((file, size))
}

/// Exactly as many bytes as the header announced, or an error: a short entry would make the engine read
/// our padding as the source.
fn exactly(file: File, size: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file.take(size), size), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut piece).await? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the source became shorter while it was read",
            )),
            count => Ok(Some((piece.freeze(), (file, left - count as u64)))),
        }
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Folder,
    File(u32),
}

fn entry(path: &str, kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(path, kind, content.len() as u64);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + padding(content.len() as u64), 0);
    bytes
}

fn header(path: &str, kind: Kind, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let name = path.trim_start_matches('/').as_bytes();
    // All paths are short constants; a longer one would be cut.
    let room = header.as_old_mut().name.iter_mut();
    room.zip(name).for_each(|(place, byte)| *place = *byte);
    match kind {
        Kind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
        }
        Kind::File(mode) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(mode);
        }
    }
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use millrace_supervisor::{Plan, Step};

    use super::*;

    fn files(source: &Path, supervisor: &Path, cap: u64) -> SandboxFiles {
        let step = Step {
            name: "x".into(),
            argv: vec!["true".into()],
            arguments_from: None,
            env: Vec::new(),
            stage: None,
            network: None,
            rounds: None,
        };
        SandboxFiles {
            supervisor: supervisor.to_owned(),
            plan: Plan::new(vec![step], 60),
            source: Some(source.to_owned()),
            max_source_bytes: cap,
            programs: Vec::new(),
            packages: Vec::new(),
        }
    }

    async fn bytes_of(files: &SandboxFiles) -> io::Result<Vec<u8>> {
        let mut stream = Box::pin(of_files(files).await.map_err(io::Error::other)?);
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend(piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn the_archive_holds_what_was_given_under_fixed_names() {
        let folder = tempfile::tempdir().unwrap();
        let (source, supervisor) = (folder.path().join("s"), folder.path().join("p"));
        let content: Vec<u8> = (0..600_001u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&source, &content).unwrap();
        std::fs::write(&supervisor, b"binary").unwrap();
        let bytes = bytes_of(&files(&source, &supervisor, 1 << 20))
            .await
            .unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            seen.push((path, entry.header().mode().unwrap(), content));
        }
        let names: Vec<&str> = seen.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "millrace",
                "millrace/supervisor",
                "millrace/plan.json",
                "millrace/source.src.rpm"
            ]
        );
        assert_eq!((seen[1].1, &seen[1].2[..]), (0o755, &b"binary"[..]));
        assert!(seen[3].2 == content);
    }

    #[tokio::test]
    async fn packages_that_were_built_before_lie_in_a_folder_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in [("s", "source"), ("a.rpm", "aa"), ("b.rpm", "")] {
            std::fs::write(path(name), content).unwrap();
        }
        let mut files = files(&path("s"), &path("s"), 100);
        files.packages = vec![path("a.rpm"), path("b.rpm")];
        let bytes = bytes_of(&files).await.unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(&bytes[..]);
        let seen: Vec<(String, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.size()))
            .skip(3)
            .collect();
        let wanted = [
            ("millrace/source.src.rpm", 6),
            ("millrace/packages", 0),
            ("millrace/packages/0.rpm", 2),
            ("millrace/packages/1.rpm", 0),
        ];
        assert_eq!(seen, wanted.map(|(name, size)| (name.to_owned(), size)));
        files.packages.push(path("gone.rpm"));
        assert!(bytes_of(&files).await.is_err());
    }

    #[tokio::test]
    async fn a_source_over_the_cap_is_refused_before_anything_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, b"12345").unwrap();
        let error = of_files(&files(&path, &path, 4)).await.err().unwrap();
        assert!(matches!(
            error,
            SandboxError::SourceTooLarge { size: 5, cap: 4 }
        ));
    }

    #[tokio::test]
    async fn a_source_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, b"12345").unwrap();
        let file = File::open(&path).await.unwrap();
        let pieces: Vec<_> = exactly(file, 9).collect().await;
        assert!(pieces.last().unwrap().is_err());
    }
}
