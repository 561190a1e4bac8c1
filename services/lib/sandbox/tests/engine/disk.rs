//! The limits on disk space and entries, against package code: everything here runs as the build's user, who is not the
//! supervisor's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_supervisor::{LimitHit, Plan};

use crate::harness::{Finished, Harness, MIB, plan, shell};

/// Limits of every sandbox here.
const SPACE: u64 = 300 * MIB;
const ENTRIES: u64 = 3000;
/// How late the end may be.
const LATE: Duration = Duration::from_secs(10);

/// What the hogs are made of. Each says when it has passed its limit, and stays until it is ended.
const TOOLS: &str = r"
import array, ctypes, mmap, os, socket, threading, time
os.mkdir('/var/tmp/hog')
os.chdir('/var/tmp/hog')
def passed():
    print('passed', time.time(), flush=True)
def unlinked():
    f = open('unlinked', 'w+b', buffering=0)
    os.unlink('unlinked')
    return f
def fill(f):
    for i in range(500):
        f.write(b'x' * (1 << 20))
        if i == 300:
            passed()
    os.fsync(f.fileno())
    return f
def hide(hold):
    for i in range(8):
        f = unlinked()
        f.write(b'x' * (80 << 20))
        os.fsync(f.fileno())
        hold(f)
        f.close()
        if i == 3:
            passed()
def repeat(make):
    for i in range(20000):
        make(str(i))
        if i == 3000:
            passed()
";

/// The script, run as the user that mock builds as.
fn as_build_user(script: &str) -> Plan {
    let user = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    let mut plan = plan("", 150);
    plan.steps = vec![shell(&format!(
        "exec {user} python3 -u - <<'END'\n{TOOLS}{script}\ntime.sleep(100)\nEND"
    ))];
    plan.disk_limit_bytes = Some(SPACE);
    plan.disk_limit_entries = Some(ENTRIES);
    plan
}

/// How long after it had passed its limit a hog was ended.
fn lateness(finished: &Finished) -> Duration {
    let line = finished.log.lines().find_map(|l| l.strip_prefix("passed "));
    let passed: f64 = line.unwrap().parse().unwrap();
    let step = &finished.report().steps[0];
    let start: DateTime<Utc> = step.start.parse().unwrap();
    let ended = Duration::from_millis(start.timestamp_millis().try_into().unwrap())
        + Duration::from_secs_f64(step.seconds);
    ended.saturating_sub(Duration::from_secs_f64(passed))
}

async fn assert_ended(script: &str, hit: LimitHit) {
    let finished = Harness::open().await.run(as_build_user(script)).await;
    let report = finished.report();
    assert_eq!(
        report.limit_hit,
        Some(hit),
        "{script}: {report:?}: {}",
        finished.log
    );
    let used = (report.disk_bytes, report.disk_entries);
    match hit {
        LimitHit::DiskEntries => assert!(used.1 > Some(ENTRIES), "{script}: {used:?}"),
        _ => assert!(used.0 > Some(SPACE), "{script}: {used:?}"),
    }
    let late = lateness(&finished);
    assert!(late < LATE, "{script}: {late:?}");
}

#[tokio::test]
async fn entries_of_every_kind_are_limited() {
    for make in [
        "repeat(os.mkdir)",
        "repeat(lambda name: open(name, 'w').close())",
        "repeat(lambda name: os.symlink('nowhere', name))",
        "open('first', 'w').close()\nrepeat(lambda name: os.link('first', name))",
        "repeat(os.mkfifo)",
    ] {
        assert_ended(make, LimitHit::DiskEntries).await;
    }
}

#[tokio::test]
async fn a_file_that_is_written_counts_before_it_is_closed() {
    assert_ended("f = fill(open('named', 'wb', buffering=0))", LimitHit::Disk).await;
}

#[tokio::test]
async fn an_unlinked_file_of_the_builds_user_counts() {
    assert_ended("f = fill(unlinked())", LimitHit::Disk).await;
}

#[tokio::test]
async fn a_thread_with_descriptors_of_its_own_hides_nothing() {
    let script = "
def run():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    hide(lambda f: keep.append(os.dup(f.fileno())))
    time.sleep(100)
keep = []
threading.Thread(target=run).start()";
    assert_ended(script, LimitHit::Disk).await;
}

#[tokio::test]
async fn files_whose_only_descriptors_are_in_flight_count() {
    let script = "
ends = socket.socketpair()
def send(f):
    rights = array.array('i', [f.fileno()])
    ends[0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
hide(send)";
    assert_ended(script, LimitHit::Disk).await;
}

#[tokio::test]
async fn files_that_are_only_mapped_count() {
    let script =
        "maps = []\nhide(lambda f: maps.append(mmap.mmap(f.fileno(), 4096, trackfd=False)))";
    assert_ended(script, LimitHit::Disk).await;
}

#[tokio::test]
async fn a_small_build_beside_one_that_fills_the_disk_succeeds() {
    let small = "
with open('named', 'wb') as f:
    f.write(b'x' * (100 << 20))
time.sleep(20)
raise SystemExit(0)";
    let (hog, neighbour) = (Harness::open().await, Harness::open().await);
    let mut large = as_build_user("f = fill(unlinked())\ntime.sleep(5)\nraise SystemExit(0)");
    large.disk_limit_bytes = None;
    let (hog, neighbour) = tokio::join!(hog.run(large), neighbour.run(as_build_user(small)));
    assert!(hog.report().is_clean(), "{:?}", hog.report());
    let report = neighbour.report();
    assert!(report.is_clean(), "{report:?}");
    let used = report.disk_bytes.unwrap();
    assert!((100 * MIB..200 * MIB).contains(&used), "{used}");
}
