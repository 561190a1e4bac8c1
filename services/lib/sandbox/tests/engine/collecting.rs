//! Results out of a sandbox in which strangers could do what they like.

use millrace_sandbox::{CollectCaps, Collected, RefusedFile};

use crate::harness::{Harness, MIB, plan};

async fn results_of(script: &str, caps: &CollectCaps) -> (tempfile::TempDir, Collected) {
    let harness = Harness::open().await;
    let script = format!("cd /millrace/results; {script}");
    let mut handle = harness.start(plan(&script, 60)).await;
    let ended = handle.wait().await.unwrap();
    assert!(ended.report.unwrap().is_clean());
    let folder = tempfile::tempdir().unwrap();
    let collected = handle
        .collect("/millrace/results", folder.path(), caps)
        .await
        .unwrap();
    handle.remove().await.unwrap();
    harness.assert_empty().await;
    (folder, collected)
}

fn names(collected: &Collected) -> Vec<&str> {
    let mut names: Vec<_> = collected.files.iter().map(|f| f.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn results_arrive_with_size_and_digest() {
    let script =
        "printf abc >build.log; dd if=/dev/zero of=a-1-1.x86_64.rpm bs=1M count=20 2>/dev/null";
    let (folder, collected) = results_of(script, &CollectCaps::default()).await;
    assert_eq!(names(&collected), ["a-1-1.x86_64.rpm", "build.log"]);
    assert_eq!(collected.refused, []);
    let log = collected.files.iter().find(|f| f.size == 3).unwrap();
    assert_eq!(
        log.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let package = std::fs::metadata(folder.path().join("a-1-1.x86_64.rpm")).unwrap();
    assert_eq!(package.len(), 20 * MIB);
}

#[tokio::test]
async fn links_pipes_folders_and_strange_names_stay_inside() {
    let script = "echo x >build.log; ln -s /etc/passwd passwd.log; ln -s / root.json; mkfifo pipe.log; \
                  mkdir sub; echo x >sub/x.log; echo x >.hidden.log; echo x >'a b.log'; echo x >core; \
                  mknod node.log c 1 3 || true; ln build.log hard.log; echo x >\"$(printf 'new\\nline.log')\"";
    let (_folder, collected) = results_of(script, &CollectCaps::default()).await;
    // Of two names of one file the archive shows one as a link.
    assert_eq!(names(&collected).len(), 1, "{collected:?}");
    let refused = |name: &str| collected.refused.iter().any(|file| file.name == name);
    for name in [
        "passwd.log",
        "root.json",
        "pipe.log",
        "sub/x.log",
        ".hidden.log",
        "a b.log",
        "core",
        "new\u{fffd}line.log",
    ] {
        assert!(refused(name), "{name}: {collected:?}");
    }
}

#[tokio::test]
async fn a_sparse_giant_is_refused_in_short_time_and_the_logs_still_come() {
    let caps = CollectCaps {
        file_bytes: 10 * MIB,
        total_bytes: 30 * MIB,
        files: 10,
    };
    let script =
        "truncate -s 2T a.rpm; echo built >build.log; echo state >state.log; echo x >z.rpm";
    let started = std::time::Instant::now();
    let (_folder, collected) = results_of(script, &caps).await;
    assert_eq!(names(&collected), ["build.log", "state.log"]);
    assert_eq!(collected.refused[0].name, "a.rpm");
    assert!(collected.unread.is_some());
    assert!(started.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn names_with_dashes_blanks_and_control_characters_stay_inside() {
    let script = "echo x >./-rf.rpm; echo x >./--help.log; echo x >'a b.rpm'; echo x >\"$(printf 'a\\033[2Jb.rpm')\"; \
                  echo x >fine-1-1.noarch.rpm; mkdir -p ..x.rpm; mknod node.rpm c 1 3 || mkfifo node.rpm";
    let (_folder, collected) = results_of(script, &CollectCaps::default()).await;
    assert_eq!(names(&collected), ["fine-1-1.noarch.rpm"]);
    // Docker ends the names of folders with a slash, Podman does not.
    let name = |file: &RefusedFile| file.name.trim_end_matches('/').to_owned();
    let mut refused: Vec<_> = collected.refused.iter().map(name).collect();
    refused.sort_unstable();
    assert_eq!(
        refused,
        [
            "--help.log",
            "-rf.rpm",
            "..x.rpm",
            "a b.rpm",
            "a\u{fffd}[2Jb.rpm",
            "node.rpm"
        ]
    );
}

#[tokio::test]
async fn of_very_many_small_files_the_logs_come_and_the_rest_is_capped() {
    let caps = CollectCaps {
        files: 20,
        ..CollectCaps::default()
    };
    let script =
        "seq -f '%05g.json' 1100 | xargs touch; echo built >build.log; echo state >state.log";
    let (folder, collected) = results_of(script, &caps).await;
    let taken = names(&collected);
    assert_eq!(taken.len(), caps.files + 2, "{taken:?}");
    assert!(taken.ends_with(&["build.log", "state.log"]), "{taken:?}");
    assert!(collected.unread.is_some() && collected.refused.len() <= 100);
    let written = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(written, collected.files.len());
}

#[tokio::test]
async fn a_result_folder_that_is_a_link_leads_nowhere() {
    let script = "rmdir /millrace/results && ln -s /etc /millrace/results";
    let (folder, collected) = results_of(script, &CollectCaps::default()).await;
    assert_eq!(collected.files, []);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_result_folder_that_is_gone_has_no_results() {
    let (_folder, collected) = results_of("rmdir /millrace/results", &CollectCaps::default()).await;
    assert_eq!(collected, Collected::default());
}
