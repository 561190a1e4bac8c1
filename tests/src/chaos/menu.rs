//! What is built: source packages that end in a known way.

use super::dice::Dice;
use crate::Fixture;

/// A source package.
#[derive(Debug, Clone)]
pub struct Dish {
    /// The fixture's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Memory limit in MiB to build it with.
    pub memory: u32,
}

/// What there is to choose from, the frequent ones several times.
#[derive(Debug)]
pub struct Menu {
    dishes: Vec<Dish>,
}

/// How often each fixture comes in real runs.
const REAL: [(&str, usize); 8] = [
    ("hello", 8),
    ("slow", 3),
    ("chatty", 2),
    ("compile-error", 3),
    ("no-packages", 1),
    ("prep-failure", 1),
    ("install-failure", 1),
    ("excluded-arch", 1),
];

impl Menu {
    /// Reads the fixtures; the stand-in takes any bytes and builds nothing.
    pub fn new(real: bool) -> Self {
        let dishes = if real {
            REAL.iter()
                .flat_map(|(name, often)| vec![from_fixture(name); *often])
                .collect()
        } else {
            (0..8).map(stand_in).collect()
        };
        Self { dishes }
    }

    /// One or two packages.
    pub fn choose(&self, dice: &mut Dice) -> Vec<Dish> {
        let count = if dice.percent(20) { 2 } else { 1 };
        (0..count)
            .filter_map(|_| dice.pick(&self.dishes).cloned())
            .collect()
    }
}

fn from_fixture(name: &str) -> Dish {
    let fixture = Fixture::named(name);
    Dish {
        name: name.to_owned(),
        bytes: std::fs::read(&fixture.srpm).unwrap(),
        memory: fixture.expected.memory.unwrap_or(512),
    }
}

fn stand_in(number: usize) -> Dish {
    Dish {
        name: format!("noop-{number}"),
        bytes: format!("stand-in {number}, nothing reads it")
            .repeat(40)
            .into_bytes(),
        memory: 256,
    }
}
