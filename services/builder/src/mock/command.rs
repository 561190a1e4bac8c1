//! The plan of one package: mock is called twice in the same sandbox, once connected, to install what the package
//! needs, and once without network, to build it. What the package finds out itself to need (dynamic build
//! requirements) is installed connected in between, while nothing of the package runs. A build that may use the network
//! throughout is never cut.

use millrace_supervisor::{Network, Owner, Plan, REQUIRES_PATH, Rounds, SOURCE_PATH, Step};
use millrace_wire::JobV1;

use crate::context::SandboxCaps;

/// The unprivileged user and group that mock builds as; root starts mock and names them.
const BUILD_USER: u32 = 1000;
/// mock's exit code where the package manager failed.
const PACKAGE_MANAGER: i32 = 30;
/// Where mock leaves the source package that names dynamic build requirements, `*` being the root's name.
const SOURCES_FOLDER: &str = "/var/lib/mock/*/root/builddir/build/SRPMS";
/// How rpmbuild names it (rpm 4.15, `-br`).
const REQUIRES_SUFFIX: &str = ".buildreqs.nosrc.rpm";
/// mock's own limit on rounds of dynamic build requirements.
const ROUNDS: u32 = 10;

/// The plan for one package of a job. The source lies under its fixed name.
pub fn plan(job: &JobV1, caps: &SandboxCaps) -> Plan {
    let dependencies = step(job, caps, "dependencies", &["--installdeps", SOURCE_PATH]);
    let mut plan = Plan::new(
        vec![dependencies, rebuild(job, caps)],
        job.limits.timeout_seconds,
    );
    plan.env = vec![
        ("SUDO_UID".to_owned(), BUILD_USER.to_string()),
        ("SUDO_GID".to_owned(), BUILD_USER.to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    plan.result_owner = Some(Owner {
        uid: BUILD_USER,
        gid: BUILD_USER,
    });
    plan.log = caps.log;
    plan.silence_limit_seconds = caps.silence_seconds;
    plan.disk_limit_bytes = caps.disk_bytes;
    plan
}

fn rebuild(job: &JobV1, caps: &SandboxCaps) -> Step {
    if job.network {
        return step(job, caps, "rebuild", &["--rebuild", SOURCE_PATH]);
    }
    let mut rebuild = step(
        job,
        caps,
        "rebuild",
        &["--offline", "--rebuild", SOURCE_PATH],
    );
    rebuild.network = Some(Network::Cut);
    let name = "dynamic-dependencies";
    let mut install = step(job, caps, name, &["--installdeps", REQUIRES_PATH]);
    install.network = Some(Network::Connected);
    rebuild.rounds = Some(Rounds {
        exit_codes: vec![PACKAGE_MANAGER],
        folder: SOURCES_FOLDER.to_owned(),
        suffix: REQUIRES_SUFFIX.to_owned(),
        install: Box::new(install),
        at_most: ROUNDS,
    });
    rebuild
}

fn step(job: &JobV1, caps: &SandboxCaps, name: &str, mode: &[&str]) -> Step {
    let mut argv: Vec<String> = [
        "mock",
        "-r",
        job.chroot.mock_root.as_str(),
        "--isolation",
        "simple",
        // The chroot is baked into the image, and the container is thrown away.
        "--no-clean",
        "--no-cleanup-after",
        "--resultdir",
        millrace_supervisor::RESULT_DIR,
        "--config-opts",
        "print_main_output=True",
    ]
    .map(str::to_owned)
    .into();
    if let Some(jobs) = caps.make_jobs() {
        // rpm's own macros for it (rpm 4.15): the processors it sees are the host's.
        for define in [
            format!("_smp_build_ncpus {jobs}"),
            format!("_smp_mflags -j{jobs}"),
        ] {
            argv.extend(["--define".to_owned(), define]);
        }
    }
    for repository in &job.repositories {
        argv.push("--addrepo".to_owned());
        argv.push(repository.expand(job.chroot.name.arch()));
    }
    argv.extend(mode.iter().map(|&word| word.to_owned()));
    Step {
        name: name.to_owned(),
        argv,
        env: Vec::new(),
        stage: Some("buildroot".to_owned()),
        network: None,
        rounds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::samples;

    fn caps() -> SandboxCaps {
        SandboxCaps {
            cpus: Some(1.5),
            disk_bytes: Some(1 << 30),
            ..SandboxCaps::default()
        }
    }

    #[test]
    fn a_package_is_two_calls_of_mock_under_the_jobs_limit() {
        let plan = plan(&samples::job(), &SandboxCaps::default());
        assert_eq!(plan.wall_limit_seconds, 1800);
        assert_eq!(
            plan.steps[0].argv.join(" "),
            "mock -r fedora-44-x86_64 --isolation simple --no-clean --no-cleanup-after --resultdir /millrace/results \
             --config-opts print_main_output=True --addrepo http://foo/repo/x86_64/ --installdeps /millrace/source.src.rpm"
        );
        assert!(
            plan.steps[1]
                .argv
                .join(" ")
                .ends_with("--offline --rebuild /millrace/source.src.rpm")
        );
    }

    #[test]
    fn package_code_runs_cut_and_only_requirements_are_installed_connected() {
        let mut job = samples::job();
        let plan_of = |job: &JobV1| plan(job, &SandboxCaps::default()).steps[1].clone();
        let cut = plan_of(&job);
        assert_eq!(cut.network, Some(Network::Cut));
        let install = cut.rounds.unwrap().install;
        assert_eq!(install.network, Some(Network::Connected));
        assert!(
            install
                .argv
                .ends_with(&["--installdeps".to_owned(), REQUIRES_PATH.to_owned()])
        );
        job.network = true;
        let connected = plan_of(&job);
        assert!(connected.network.is_none() && connected.rounds.is_none());
        assert!(!connected.argv.contains(&"--offline".to_owned()));
    }

    #[test]
    fn make_runs_as_many_jobs_as_there_are_processors() {
        let plan = plan(&samples::job(), &caps());
        let line = plan.steps[1].argv.join(" ");
        assert!(
            line.contains("--define _smp_build_ncpus 2 --define _smp_mflags -j2"),
            "{line}"
        );
        assert_eq!(plan.disk_limit_bytes, Some(1 << 30));
    }

    #[test]
    fn mock_builds_as_an_unprivileged_user_who_owns_the_results() {
        let plan = plan(&samples::job(), &SandboxCaps::default());
        assert!(
            plan.env
                .contains(&("SUDO_UID".to_owned(), "1000".to_owned()))
        );
        assert_eq!(plan.result_owner.map(|owner| owner.uid), Some(1000));
    }
}
