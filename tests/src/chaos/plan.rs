//! The plan of faults: a pure function of seed and size, so that a seed names it.

use std::fmt;
use std::time::Duration;

use super::kind::{Area, Kind};
use super::seeded_random::SeededRandom;

/// What there is to break, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Faults begin before this much time has passed.
    pub time: Duration,
    /// Mean time between the beginnings of two.
    pub gap: Duration,
    /// Builders.
    pub builders: usize,
    /// Frontends.
    pub frontends: usize,
    /// What may be done to them.
    pub kinds: Vec<Kind>,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// When it begins, from the start of the run.
    pub at: Duration,
    /// What it is.
    pub kind: Kind,
    /// Which builder or frontend, from 0; 0 where there is no choice.
    pub target: usize,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Fault {
    /// What it touches.
    pub fn area(&self) -> Area {
        self.kind.area(self.target)
    }

    fn over(&self) -> Duration {
        self.at + self.lasts + self.kind.recovery()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(f, "{at:>7.1} s  {}", self.kind)?;
        if let Area::Builder(target) | Area::Frontend(target) = self.area() {
            write!(f, " {target}")?;
        }
        write!(f, ", {lasts:.1} s")
    }
}

/// The builder whose disk can be filled.
pub const SMALL_DISK: usize = 0;

/// The plan of a seed. Each kind comes once before any comes again. There is always a frontend that works, or that comes
/// back within seconds, and at least half of the builders are left alone; broker and database are not broken at once.
pub fn plan(seed: u64, scene: &Scene) -> Vec<Fault> {
    let mut random = SeededRandom::new(seed, 0);
    let mut faults: Vec<Fault> = Vec::new();
    let mut bag: Vec<Kind> = Vec::new();
    let mut at = scene.gap / 2;
    while at < scene.time {
        if bag.len() < scene.kinds.len() {
            let mut more = scene.kinds.clone();
            random.shuffle(&mut more);
            bag.extend(more);
        }
        let under_way: Vec<Fault> = faults.iter().filter(|f| f.over() > at).copied().collect();
        if let Some((place, target)) = choose(&bag, &under_way, scene, &mut random) {
            let kind = bag.remove(place);
            let lasts = lasting(kind, scene, &mut random);
            faults.push(Fault {
                at,
                kind,
                target,
                lasts,
            });
        }
        at += random.between(scene.gap / 2, scene.gap * 3 / 2);
    }
    faults
}

/// The first kind in the bag that may happen beside what is under way.
fn choose(
    bag: &[Kind],
    under_way: &[Fault],
    scene: &Scene,
    random: &mut SeededRandom,
) -> Option<(usize, usize)> {
    bag.iter()
        .enumerate()
        .find_map(|(place, kind)| Some((place, target(*kind, under_way, scene, random)?)))
}

fn target(
    kind: Kind,
    under_way: &[Fault],
    scene: &Scene,
    random: &mut SeededRandom,
) -> Option<usize> {
    let busy = |area: Area| under_way.iter().any(|fault| fault.area() == area);
    let (count, broken, at_most) = match kind.area(0) {
        Area::Builder(_) => (
            scene.builders,
            under_way
                .iter()
                .filter(|f| matches!(f.area(), Area::Builder(_)))
                .count(),
            (scene.builders / 2).max(1),
        ),
        Area::Frontend(_) => (
            scene.frontends,
            under_way
                .iter()
                .filter(|f| matches!(f.area(), Area::Frontend(_)))
                .count(),
            (scene.frontends - 1).max(1),
        ),
        area => return (!busy(area)).then_some(0),
    };
    if broken >= at_most {
        return None;
    }
    let mut targets: Vec<usize> = if kind == Kind::FillDisk {
        vec![SMALL_DISK]
    } else {
        (0..count).collect()
    };
    targets.retain(|target| !busy(kind.area(*target)));
    random.pick(&targets).copied()
}

/// Short ones are more frequent; in a short run none takes more than a quarter of it.
fn lasting(kind: Kind, scene: &Scene, random: &mut SeededRandom) -> Duration {
    let (least, most) = kind.seconds();
    let most = Duration::from_secs_f64(most).min(scene.time / 4);
    let least = Duration::from_secs_f64(least).min(most);
    let (one, other) = (random.between(least, most), random.between(least, most));
    one.min(other)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;

    fn scene(minutes: u64) -> Scene {
        Scene {
            time: Duration::from_secs(minutes * 60),
            gap: Duration::from_secs(8),
            builders: 4,
            frontends: 2,
            kinds: Kind::value_variants().to_vec(),
        }
    }

    #[test]
    fn a_seed_names_a_plan() {
        assert_eq!(plan(7, &scene(20)), plan(7, &scene(20)));
        assert_ne!(plan(7, &scene(20)), plan(8, &scene(20)));
    }

    #[test]
    fn twenty_minutes_hold_at_least_sixty_faults_of_every_kind() {
        for seed in 0..50 {
            let faults = plan(seed, &scene(20));
            assert!(faults.len() >= 60, "seed {seed}: {}", faults.len());
            let kinds: BTreeSet<Kind> = faults.iter().map(|f| f.kind).collect();
            assert_eq!(kinds.len(), Kind::value_variants().len(), "seed {seed}");
        }
    }

    #[test]
    fn there_is_always_something_that_can_work() {
        for seed in 0..50 {
            let faults = plan(seed, &scene(20));
            for fault in &faults {
                let beside = |wanted: fn(Area) -> bool| {
                    let overlaps =
                        |f: &&Fault| f.at <= fault.at && f.over() > fault.at && wanted(f.area());
                    faults.iter().filter(overlaps).count()
                };
                assert!(
                    beside(|area| matches!(area, Area::Builder(_))) <= 2,
                    "seed {seed}: {fault}"
                );
                assert!(
                    beside(|area| matches!(area, Area::Frontend(_))) <= 1,
                    "seed {seed}: {fault}"
                );
                assert!(
                    beside(|area| area == Area::Services) <= 1,
                    "seed {seed}: {fault}"
                );
                assert!(fault.kind != Kind::FillDisk || fault.target == SMALL_DISK);
            }
        }
    }

    #[test]
    fn one_builder_and_one_frontend_are_broken_too() {
        let small = Scene {
            builders: 1,
            frontends: 1,
            ..scene(10)
        };
        let kinds: BTreeSet<Kind> = plan(3, &small).iter().map(|f| f.kind).collect();
        assert!(
            kinds.contains(&Kind::KillBuilder) && kinds.contains(&Kind::KillFrontend),
            "{kinds:?}"
        );
    }
}
