//! Reads the container's own counters, of cgroup v1 and v2. They are read from inside, since they are zero once the
//! container has ended and some engines never report a kill.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits from here on stand for "none"; v1 shows the largest page-aligned number instead of a word.
const UNLIMITED: u64 = 1 << 60;

/// Where the counters lie.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    V1 { memory: PathBuf, cpu: PathBuf },
    V2 { folder: PathBuf },
}

/// Reads the counters of this container.
#[derive(Debug)]
pub(crate) struct Meter {
    hierarchy: Option<Hierarchy>,
    oom_kills_before: u64,
    peak: u64,
}

/// Memory in use at one moment, in bytes, and kills since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub now: u64,
    pub peak: u64,
    pub oom_kills: u64,
}

impl Meter {
    /// A meter that counts kills from now on.
    pub(crate) fn start() -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::on(find(Path::new("/sys/fs/cgroup"), &membership))
    }

    fn on(hierarchy: Option<Hierarchy>) -> Self {
        let mut meter = Self {
            hierarchy,
            oom_kills_before: 0,
            peak: 0,
        };
        meter.oom_kills_before = meter.oom_kills_ever();
        meter
    }

    /// Whether no counters were found.
    pub(crate) fn is_blind(&self) -> bool {
        self.hierarchy.is_none()
    }

    /// Takes a sample; its peak is the highest memory of all samples.
    pub(crate) fn sample(&mut self) -> Memory {
        let now = match &self.hierarchy {
            Some(Hierarchy::V1 { memory, .. }) => anonymous_and_shared(
                &read(&memory.join("memory.stat")),
                "total_rss",
                "total_shmem",
            ),
            Some(Hierarchy::V2 { folder }) => {
                anonymous_and_shared(&read(&folder.join("memory.stat")), "anon", "shmem")
            }
            None => 0,
        };
        self.peak = self.peak.max(now);
        Memory {
            now,
            peak: self.peak,
            oom_kills: self.oom_kills_ever().saturating_sub(self.oom_kills_before),
        }
    }

    fn oom_kills_ever(&self) -> u64 {
        let text = match &self.hierarchy {
            Some(Hierarchy::V1 { memory, .. }) => read(&memory.join("memory.oom_control")),
            Some(Hierarchy::V2 { folder }) => read(&folder.join("memory.events")),
            None => return 0,
        };
        value_of(&text, "oom_kill").unwrap_or(0)
    }

    /// Whether the memory in use ever reached the limit; none where no counter says. A kill without that means that the
    /// host ran out of memory. Counters of failed charges would show it too, but not every kernel updates them.
    pub(crate) fn is_limit_reached(&self) -> Option<bool> {
        let (peak, limit) = (self.peak_with_cache()?, self.limit()?);
        Some(peak >= limit - limit / 32)
    }

    /// The kernel's own peak of memory, in bytes, which includes page cache; none where the kernel has no such counter.
    pub(crate) fn peak_with_cache(&self) -> Option<u64> {
        number(&match self.hierarchy.as_ref()? {
            Hierarchy::V1 { memory, .. } => read(&memory.join("memory.max_usage_in_bytes")),
            Hierarchy::V2 { folder } => read(&folder.join("memory.peak")),
        })
    }

    /// The memory limit, in bytes; none when there is no limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        number(&match self.hierarchy.as_ref()? {
            Hierarchy::V1 { memory, .. } => read(&memory.join("memory.limit_in_bytes")),
            Hierarchy::V2 { folder } => read(&folder.join("memory.max")),
        })
        .filter(|limit| *limit < UNLIMITED)
    }

    /// Swap in use, in bytes.
    pub(crate) fn swap(&self) -> u64 {
        let found = match &self.hierarchy {
            Some(Hierarchy::V1 { memory, .. }) => {
                value_of(&read(&memory.join("memory.stat")), "total_swap")
            }
            Some(Hierarchy::V2 { folder }) => number(&read(&folder.join("memory.swap.current"))),
            None => None,
        };
        found.unwrap_or(0)
    }

    /// Processor time of the whole container, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let nanos = match &self.hierarchy {
            Some(Hierarchy::V1 { cpu, .. }) => number(&read(&cpu.join("cpuacct.usage"))),
            Some(Hierarchy::V2 { folder }) => {
                value_of(&read(&folder.join("cpu.stat")), "usage_usec").map(|usec| usec * 1000)
            }
            None => None,
        };
        std::time::Duration::from_nanos(nanos.unwrap_or(0)).as_secs_f64()
    }
}

/// The text of a counter's file; empty where it cannot be read, since a missing statistic must not end a build.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Finds the counters below `root`. Engines show the container's own folder there; where one shows the
/// host's tree instead, the membership in `/proc/self/cgroup` leads to it.
fn find(root: &Path, membership: &str) -> Option<Hierarchy> {
    let folder = |controller: &str, marker: &str| {
        let base = root.join(controller);
        let own =
            member_path(membership, controller).map(|path| base.join(path.trim_start_matches('/')));
        own.into_iter()
            .chain([base])
            .find(|folder| folder.join(marker).exists())
    };
    if let Some(memory) = folder("memory", "memory.oom_control") {
        let cpu = folder("cpuacct", "cpuacct.usage")
            .or_else(|| folder("cpu,cpuacct", "cpuacct.usage"))
            .unwrap_or_default();
        return Some(Hierarchy::V1 { memory, cpu });
    }
    folder("", "memory.events").map(|folder| Hierarchy::V2 { folder })
}

/// The path of a controller in `/proc/self/cgroup`; the empty name is v2's single line.
fn member_path<'a>(membership: &'a str, controller: &str) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        (parts.next()? == controller)
            .then(|| parts.next())
            .flatten()
    })
}

fn anonymous_and_shared(stat: &str, anonymous: &str, shared: &str) -> u64 {
    value_of(stat, anonymous).unwrap_or(0) + value_of(stat, shared).unwrap_or(0)
}

/// The number behind `key` in a file of `key number` lines.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| number(value)).flatten()
    })
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_STAT: &str = "cache 2723840\nrss 221184\nshmem 0\nmapped_file 1826816\ntotal_cache 2723840\ntotal_rss 221184\ntotal_rss_huge 0\ntotal_shmem 4096\ntotal_mapped_file 1826816\ntotal_swap 0\n";
    const V2_STAT: &str =
        "anon 1601536\nfile 46014464\nkernel 2629632\nshmem 12288\nfile_mapped 32178176\n";

    #[test]
    fn anonymous_and_shared_memory_count_and_cache_does_not() {
        assert_eq!(
            anonymous_and_shared(V1_STAT, "total_rss", "total_shmem"),
            225_280
        );
        assert_eq!(anonymous_and_shared(V2_STAT, "anon", "shmem"), 1_613_824);
        assert_eq!(anonymous_and_shared("", "anon", "shmem"), 0);
    }

    #[test]
    fn kills_are_found_in_both_formats() {
        assert_eq!(
            value_of("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"),
            Some(3)
        );
        let events = "low 0\nhigh 0\nmax 8\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(value_of(events, "oom_kill"), Some(1));
        assert_eq!(value_of("oom_kill\noom_kill x\n", "oom_kill"), None);
    }

    #[test]
    fn the_membership_names_a_path_for_each_controller() {
        let v1 = "9:name=systemd:/docker/ab\n8:memory:/docker/ab\n0::/docker/ab\n";
        assert_eq!(member_path(v1, "memory"), Some("/docker/ab"));
        assert_eq!(member_path(v1, ""), Some("/docker/ab"));
        assert_eq!(member_path(v1, "cpuacct"), None);
        assert_eq!(member_path("0::/\n", ""), Some("/"));
    }

    /// A folder of recorded files that is gone after the test.
    struct Recorded(PathBuf);

    impl Recorded {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Recorded {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn v1_counts_from_the_start_on() {
        let tree = Recorded::new(
            "millrace-cgroup-v1",
            &[
                ("memory/memory.stat", V1_STAT),
                (
                    "memory/memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.max_usage_in_bytes", "4112384\n"),
                ("cpuacct/cpuacct.usage", "42262863\n"),
            ],
        );
        let mut meter = Meter::on(find(&tree.0, "8:memory:/docker/ab\n"));
        fs::write(tree.0.join("memory/memory.oom_control"), "oom_kill 3\n").unwrap();
        assert_eq!(
            meter.sample(),
            Memory {
                now: 225_280,
                peak: 225_280,
                oom_kills: 1
            }
        );
        assert_eq!(
            (meter.limit(), meter.peak_with_cache()),
            (None, Some(4_112_384))
        );
        assert!((meter.cpu_seconds() - 0.042_262_863).abs() < 1e-9);
    }

    #[test]
    fn v2_is_found_below_the_hosts_tree_too() {
        let tree = Recorded::new(
            "millrace-cgroup-v2",
            &[
                ("sandbox/ab/memory.stat", V2_STAT),
                ("sandbox/ab/memory.events", "oom 0\noom_kill 0\n"),
                ("sandbox/ab/memory.max", "536870912\n"),
                ("sandbox/ab/memory.peak", "50000000\n"),
                (
                    "sandbox/ab/cpu.stat",
                    "usage_usec 1500000\nuser_usec 1000000\n",
                ),
            ],
        );
        let mut meter = Meter::on(find(&tree.0, "0::/sandbox/ab\n"));
        assert_eq!(meter.sample().now, 1_613_824);
        assert_eq!(
            (meter.limit(), meter.peak_with_cache()),
            (Some(536_870_912), Some(50_000_000))
        );
        assert!((meter.cpu_seconds() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_machine_without_counters_gives_zeros() {
        let mut meter = Meter::on(find(Path::new("/nonexistent"), ""));
        assert!(meter.is_blind());
        assert_eq!(meter.sample(), Memory::default());
    }

    #[test]
    fn the_peak_outlives_the_memory_and_kills_never_run_backwards() {
        let tree = Recorded::new(
            "millrace-cgroup-peak",
            &[
                ("memory.events", "oom 1\noom_kill 5\n"),
                ("memory.stat", "anon 900\nfile 7\nshmem 100\n"),
            ],
        );
        let mut meter = Meter::on(find(&tree.0, "0::/\n"));
        assert_eq!(meter.sample().peak, 1000);
        fs::write(tree.0.join("memory.stat"), "anon 10\nshmem 5\n").unwrap();
        fs::write(tree.0.join("memory.events"), "oom_kill 4\n").unwrap();
        let later = Memory {
            now: 15,
            peak: 1000,
            oom_kills: 0,
        };
        assert_eq!(meter.sample(), later);
    }

    #[test]
    fn the_limit_counts_as_reached_close_below_it() {
        for (peak, reached) in [
            ("536870912", Some(true)),
            ("520093696", Some(true)),
            ("520093695", Some(false)),
            ("0", Some(false)),
            ("max", None),
        ] {
            let tree = Recorded::new(
                "millrace-cgroup-reached",
                &[
                    ("memory.events", "oom_kill 0\n"),
                    ("memory.max", "536870912\n"),
                    ("memory.peak", peak),
                ],
            );
            let meter = Meter::on(find(&tree.0, ""));
            assert_eq!(meter.is_limit_reached(), reached, "{peak}");
        }
    }

    #[test]
    fn a_container_without_a_limit_says_so() {
        let tree = Recorded::new(
            "millrace-cgroup-unlimited",
            &[
                ("memory.events", "oom_kill 0\n"),
                ("memory.max", "max\n"),
                ("memory.peak", "4096\n"),
            ],
        );
        let meter = Meter::on(find(&tree.0, "0::/\n"));
        assert_eq!((meter.limit(), meter.is_limit_reached()), (None, None));
    }

    #[test]
    fn swap_is_read_in_both_formats() {
        let v2 = Recorded::new(
            "millrace-cgroup-swap2",
            &[("memory.events", ""), ("memory.swap.current", "8192\n")],
        );
        assert_eq!(Meter::on(find(&v2.0, "")).swap(), 8192);
        let v1 = Recorded::new(
            "millrace-cgroup-swap1",
            &[
                ("memory/memory.oom_control", "oom_kill 0\n"),
                ("memory/memory.stat", "swap 1\ntotal_swap 12288\n"),
            ],
        );
        assert_eq!(Meter::on(find(&v1.0, "")).swap(), 12_288);
        assert_eq!(Meter::on(None).swap(), 0);
    }

    #[test]
    fn v1_accounts_processor_time_under_either_name() {
        for folder in ["cpuacct", "cpu,cpuacct"] {
            let usage = format!("{folder}/cpuacct.usage");
            let tree = Recorded::new(
                "millrace-cgroup-cpu",
                &[
                    ("memory/memory.oom_control", "oom_kill 0\n"),
                    (usage.as_str(), "2500000000\n"),
                ],
            );
            let meter = Meter::on(find(&tree.0, "4:memory:/docker/ab\n"));
            assert!((meter.cpu_seconds() - 2.5).abs() < 1e-9, "{folder}");
        }
    }

    #[test]
    fn a_broken_counter_reads_as_zero_and_ends_nothing() {
        let tree = Recorded::new(
            "millrace-cgroup-broken",
            &[
                ("memory.events", "oom_kill many\n"),
                ("memory.stat", "anon\nshmem -1\nanon 99999999999999999999\n"),
                ("cpu.stat", "usage_usec x\n"),
            ],
        );
        let mut meter = Meter::on(find(&tree.0, "0::/\n"));
        assert!(!meter.is_blind());
        assert_eq!(meter.sample(), Memory::default());
        assert!(meter.cpu_seconds().abs() < 1e-9);
    }
}
