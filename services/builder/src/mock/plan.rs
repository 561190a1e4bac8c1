//! The plan of one package, which the supervisor carries out. mock is called twice in the same sandbox: connected, to
//! install the build dependencies, and without network, to build. Dynamic build requirements, which the package computes
//! itself, are installed connected in between, while no code of the package runs. A build that may use the network stays
//! connected throughout.
//!
//! Extra repositories are checked first: mock waits two minutes for one that does not answer, and does not find one with a
//! folder per architecture. Packages that were built before in the same build become a repository inside the sandbox.

use millrace_supervisor::{
    Network, Owner, PACKAGES_DIR, Plan, REPOSITORIES_PATH, REPOSITORIES_PROGRAM, REQUIRES_PATH,
    Rounds, SOURCE_PATH, Step,
};
use millrace_wire::JobV1;

use crate::config::sandbox::SandboxCaps;

/// The unprivileged user and group that mock builds as; root starts mock and names them.
const BUILD_USER: u32 = 1000;
/// mock's exit code when the package manager failed.
const PACKAGE_MANAGER: i32 = 30;
/// Where mock puts the source package that lists dynamic build requirements; `*` is the name of the root.
const SOURCES_FOLDER: &str = "/var/lib/mock/*/root/builddir/build/SRPMS";
/// How the name of that source package ends (rpm 4.15, `rpmbuild -br`).
const REQUIRES_SUFFIX: &str = ".buildreqs.nosrc.rpm";
/// mock's own limit on rounds of dynamic build requirements.
const ROUNDS: u32 = 10;

/// The program that checks extra repositories. mock is written in Python, so an image with mock can run it.
const CHECK_REPOSITORIES: &str = include_str!("repositories.py");
/// Name of the step that makes a repository of the packages that were built before.
pub const REPOSITORY_STEP: &str = "repository";

/// What the plan for one try of a package depends on.
#[derive(Debug, Clone, Copy)]
pub struct PlanInputs<'a> {
    /// The job of the attempt.
    pub job: &'a JobV1,
    /// The operator's limits, with the task's disk space.
    pub caps: &'a SandboxCaps,
    /// Limit on the wall time of the try, in seconds.
    pub timeout_seconds: u32,
    /// Whether packages that were built before are copied into the sandbox.
    pub has_packages: bool,
}

/// The plan for a try. It finds the source under a fixed path in the sandbox.
pub fn plan(inputs: &PlanInputs<'_>) -> Plan {
    let dependencies = step(inputs, "dependencies", &["--installdeps", SOURCE_PATH]);
    let repository = inputs.has_packages.then(repository);
    let extra = (!inputs.job.repositories.is_empty()).then(|| check_repositories(inputs.job));
    let steps = repository
        .into_iter()
        .chain(extra)
        .chain([dependencies, rebuild(inputs)])
        .collect();
    let mut plan = Plan::new(steps, inputs.timeout_seconds);
    plan.env = vec![
        ("SUDO_UID".to_owned(), BUILD_USER.to_string()),
        ("SUDO_GID".to_owned(), BUILD_USER.to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    plan.result_owner = Some(Owner {
        uid: BUILD_USER,
        gid: BUILD_USER,
    });
    plan.log = inputs.caps.log;
    plan.silence_limit_seconds = inputs.caps.silence_seconds;
    plan.disk_limit_bytes = inputs.caps.disk_bytes;
    plan
}

/// Programs of Millrace that a job's plan runs in the sandbox: path and content.
pub fn programs(job: &JobV1) -> Vec<(&'static str, &'static str)> {
    if job.repositories.is_empty() {
        Vec::new()
    } else {
        vec![(REPOSITORIES_PROGRAM, CHECK_REPOSITORIES)]
    }
}

fn check_repositories(job: &JobV1) -> Step {
    let arch = job.chroot.name.arch();
    let program = [
        "python3",
        "-I",
        REPOSITORIES_PROGRAM,
        REPOSITORIES_PATH,
        arch,
    ];
    let urls = job.repositories.iter().map(|url| url.expand(arch));
    Step {
        name: "repositories".to_owned(),
        argv: program.map(str::to_owned).into_iter().chain(urls).collect(),
        arguments_from: None,
        env: Vec::new(),
        // A broken extra repository is the build's fault, unlike a broken repository of the chroot.
        stage: Some("dependencies".to_owned()),
        network: None,
        rounds: None,
    }
}

/// The step that makes the repository; mock itself needs `createrepo_c`, so an image with mock has it.
fn repository() -> Step {
    let argv = [
        "createrepo_c",
        "--quiet",
        // Not every package manager reads its default compression.
        "--general-compress-type=gz",
        PACKAGES_DIR,
    ];
    Step {
        name: REPOSITORY_STEP.to_owned(),
        argv: argv.map(str::to_owned).into(),
        arguments_from: None,
        env: Vec::new(),
        stage: Some("buildroot".to_owned()),
        network: None,
        rounds: None,
    }
}

/// The step that builds the package, without network unless the build may use it.
fn rebuild(inputs: &PlanInputs<'_>) -> Step {
    if inputs.job.network {
        return step(inputs, "rebuild", &["--rebuild", SOURCE_PATH]);
    }
    let mut rebuild = step(inputs, "rebuild", &["--offline", "--rebuild", SOURCE_PATH]);
    rebuild.network = Some(Network::Cut);
    let name = "dynamic-dependencies";
    let mut install = step(inputs, name, &["--installdeps", REQUIRES_PATH]);
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

/// A call of mock with the options that all steps have.
fn step(inputs: &PlanInputs<'_>, name: &str, mode: &[&str]) -> Step {
    let job = inputs.job;
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
    if let Some(jobs) = inputs.caps.make_jobs() {
        // rpm's own macros for it (rpm 4.15): the processors it sees are the host's.
        for define in [
            format!("_smp_build_ncpus {jobs}"),
            format!("_smp_mflags -j{jobs}"),
        ] {
            argv.extend(["--define".to_owned(), define]);
        }
    }
    if inputs.has_packages {
        argv.extend(["--addrepo".to_owned(), format!("file://{PACKAGES_DIR}")]);
    }
    argv.extend(mode.iter().map(|&word| word.to_owned()));
    Step {
        name: name.to_owned(),
        argv,
        arguments_from: (!job.repositories.is_empty()).then(|| REPOSITORIES_PATH.to_owned()),
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

    fn plan_of(job: &JobV1, caps: &SandboxCaps) -> Plan {
        plan(&PlanInputs {
            job,
            caps,
            timeout_seconds: job.limits.timeout_seconds,
            has_packages: false,
        })
    }

    #[test]
    fn what_was_built_before_is_made_a_repository_first() {
        let plan = plan(&PlanInputs {
            job: &samples::job(),
            caps: &SandboxCaps::default(),
            timeout_seconds: 70,
            has_packages: true,
        });
        assert_eq!(plan.wall_limit_seconds, 70);
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            names,
            [REPOSITORY_STEP, "repositories", "dependencies", "rebuild"]
        );
        let look = &plan.steps[1];
        assert_eq!(
            look.argv.join(" "),
            "python3 -I /millrace/repositories.py /millrace/repositories x86_64 http://foo/repo/x86_64/"
        );
        assert_eq!(
            plan.steps[0].argv.join(" "),
            "createrepo_c --quiet --general-compress-type=gz /millrace/packages"
        );
        let install = &plan.steps[3].rounds.as_ref().unwrap().install;
        for step in plan.steps[2..].iter().chain([&**install]) {
            assert_eq!(step.arguments_from.as_deref(), Some(REPOSITORIES_PATH));
            let line = step.argv.join(" ");
            assert!(
                line.contains("--addrepo file:///millrace/packages "),
                "{line}"
            );
        }
    }

    #[test]
    fn a_package_is_two_calls_of_mock_under_the_jobs_limit() {
        let mut job = samples::job();
        job.repositories.clear();
        let plan = plan_of(&job, &SandboxCaps::default());
        assert_eq!(plan.wall_limit_seconds, 1800);
        assert!(plan.steps[0].arguments_from.is_none() && programs(&job).is_empty());
        assert_eq!(
            plan.steps[0].argv.join(" "),
            "mock -r fedora-44-x86_64 --isolation simple --no-clean --no-cleanup-after --resultdir /millrace/results \
             --config-opts print_main_output=True --installdeps /millrace/source.src.rpm"
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
        let rebuild_of = |job: &JobV1| plan_of(job, &SandboxCaps::default()).steps[2].clone();
        let cut = rebuild_of(&job);
        assert_eq!(cut.network, Some(Network::Cut));
        let install = cut.rounds.unwrap().install;
        assert_eq!(install.network, Some(Network::Connected));
        assert!(
            install
                .argv
                .ends_with(&["--installdeps".to_owned(), REQUIRES_PATH.to_owned()])
        );
        job.network = true;
        let connected = rebuild_of(&job);
        assert!(connected.network.is_none() && connected.rounds.is_none());
        assert!(!connected.argv.contains(&"--offline".to_owned()));
    }

    #[test]
    fn make_runs_as_many_jobs_as_there_are_processors() {
        let plan = plan_of(&samples::job(), &caps());
        let line = plan.steps[2].argv.join(" ");
        assert!(
            line.contains("--define _smp_build_ncpus 2 --define _smp_mflags -j2"),
            "{line}"
        );
        assert_eq!(plan.disk_limit_bytes, Some(1 << 30));
    }

    #[test]
    fn mock_builds_as_an_unprivileged_user_who_owns_the_results() {
        let plan = plan_of(&samples::job(), &SandboxCaps::default());
        assert!(
            plan.env
                .contains(&("SUDO_UID".to_owned(), "1000".to_owned()))
        );
        assert_eq!(plan.result_owner.map(|owner| owner.uid), Some(1000));
    }
}
