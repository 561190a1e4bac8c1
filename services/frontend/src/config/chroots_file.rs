//! Reads `MILLRACE_CHROOTS_FILE`, the chroots of the first start. From then on the database has the list; at each start
//! the file only adds chroots that the database does not know.

use std::path::Path;

use anyhow::{Context, ensure};
use millrace_domain::{ChrootName, ImageName};
use millrace_store::ChrootDef;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    chroot: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: ChrootName,
    image: ImageName,
    mock_root: ChrootName,
    /// The image that `image` is baked from; without it builders expect `image` to exist.
    #[serde(default)]
    base: Option<ImageName>,
}

/// Reads the chroots file; an entry that is no chroot is an error that names it.
pub fn read(path: &Path) -> anyhow::Result<Vec<ChrootDef>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the chroots file {}", path.display()))?;
    parse(&text).with_context(|| format!("in the chroots file {}", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<ChrootDef>> {
    let file: File = toml::from_str(text)?;
    let mut chroots: Vec<ChrootDef> = Vec::with_capacity(file.chroot.len());
    for entry in file.chroot {
        ensure!(
            !chroots.iter().any(|known| known.name == entry.name),
            "chroot {} is listed twice",
            entry.name
        );
        chroots.push(ChrootDef {
            name: entry.name,
            image: entry.image.into(),
            mock_root: entry.mock_root,
            base: entry.base.map(String::from),
        });
    }
    Ok(chroots)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[chroot]]\nname = \"fedora-44-x86_64\"\nimage = \"i\"\nbase = \"b\"\nmock_root = \"fedora-44-x86_64\"\n";

    #[test]
    fn a_chroot_has_a_name_an_image_and_a_mock_root() {
        let chroots = parse(GOOD).unwrap();
        assert_eq!(chroots[0].name.as_str(), "fedora-44-x86_64");
        assert_eq!(chroots[0].image, "i");
        assert_eq!(chroots[0].base.as_deref(), Some("b"));
    }

    #[test]
    fn a_chroot_that_is_a_path_or_there_twice_is_refused() {
        assert!(parse(&GOOD.replace("fedora-44", "../etc")).is_err());
        assert!(parse(&format!("{GOOD}{GOOD}")).is_err());
        assert!(parse("[[chroot]]\nname = \"a-1-x\"").is_err());
        assert!(parse(&GOOD.replace("\"b\"", "\"--privileged\"")).is_err());
    }
}
