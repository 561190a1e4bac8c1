//! What is built: source packages that end in a known way.

use std::collections::BTreeMap;

use super::seeded_random::SeededRandom;
use crate::Fixture;

/// A source package.
#[derive(Debug, Clone)]
pub struct SourcePackage {
    /// The fixture's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Memory limit in MiB to build it with.
    pub memory: u32,
}

/// Source packages to choose from at random, the frequent ones several times.
#[derive(Debug)]
pub struct Workload {
    packages: Vec<SourcePackage>,
}

/// Different sources of the stand-in.
const STAND_INS: usize = 8;

/// How often each fixture comes in real runs.
const REAL: [(&str, usize); 8] = [
    ("hello", 12),
    ("slow", 1),
    ("chatty", 1),
    ("compile-error", 4),
    ("no-packages", 2),
    ("prep-failure", 2),
    ("install-failure", 1),
    ("excluded-arch", 1),
];

/// How each source ends, by name.
pub fn endings(real: bool) -> BTreeMap<String, String> {
    let fixture =
        |(name, _): (&str, usize)| (name.to_owned(), Fixture::named(name).expected.outcome);
    if real {
        REAL.into_iter().map(fixture).collect()
    } else {
        (0..STAND_INS)
            .map(|number| (stand_in(number).name, "succeeded".to_owned()))
            .collect()
    }
}

impl Workload {
    /// Reads the fixtures; the stand-in takes any bytes and builds nothing.
    pub fn new(real: bool) -> Self {
        let packages = if real {
            REAL.iter()
                .flat_map(|(name, often)| vec![from_fixture(name); *often])
                .collect()
        } else {
            (0..STAND_INS).map(stand_in).collect()
        };
        Self { packages }
    }

    /// One or two packages.
    pub fn choose(&self, random: &mut SeededRandom) -> Vec<SourcePackage> {
        let count = if random.percent(20) { 2 } else { 1 };
        (0..count)
            .filter_map(|_| random.pick(&self.packages).cloned())
            .collect()
    }
}

fn from_fixture(name: &str) -> SourcePackage {
    let fixture = Fixture::named(name);
    SourcePackage {
        name: name.to_owned(),
        bytes: std::fs::read(&fixture.srpm).unwrap(),
        memory: fixture.expected.memory.unwrap_or(512),
    }
}

fn stand_in(number: usize) -> SourcePackage {
    SourcePackage {
        name: format!("noop-{number}"),
        bytes: format!("stand-in {number}, nothing reads it")
            .repeat(40)
            .into_bytes(),
        memory: 256,
    }
}
