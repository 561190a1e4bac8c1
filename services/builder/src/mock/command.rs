//! The plan of one package: mock is called twice in the same sandbox, once to install what the package needs and
//! once to build it. Both calls run connected; the place where the network is cut is between the two, which is
//! why they are two. The second call is not `--offline`: connected, it may refresh metadata as it likes.

use millrace_supervisor::{Owner, Plan, SOURCE_PATH, Step};
use millrace_wire::JobV1;

/// The unprivileged user and group that mock builds as; root starts mock and names them.
const BUILD_USER: u32 = 1000;

/// The plan for one package of a job. The source lies under its fixed name.
pub fn plan(job: &JobV1) -> Plan {
    let steps = vec![
        step(job, "dependencies", "--installdeps"),
        step(job, "rebuild", "--rebuild"),
    ];
    let mut plan = Plan::new(steps, job.limits.timeout_seconds);
    plan.env = vec![
        ("SUDO_UID".to_owned(), BUILD_USER.to_string()),
        ("SUDO_GID".to_owned(), BUILD_USER.to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    plan.result_owner = Some(Owner {
        uid: BUILD_USER,
        gid: BUILD_USER,
    });
    plan
}

fn step(job: &JobV1, name: &str, mode: &str) -> Step {
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
    for repository in &job.repositories {
        argv.push("--addrepo".to_owned());
        argv.push(repository.expand(job.chroot.name.arch()));
    }
    argv.push(mode.to_owned());
    argv.push(SOURCE_PATH.to_owned());
    Step {
        name: name.to_owned(),
        argv,
        env: Vec::new(),
        stage: Some("buildroot".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::samples;

    #[test]
    fn a_package_is_two_calls_of_mock_under_the_jobs_limit() {
        let plan = plan(&samples::job());
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
                .ends_with("--rebuild /millrace/source.src.rpm")
        );
    }

    #[test]
    fn mock_builds_as_an_unprivileged_user_who_owns_the_results() {
        let plan = plan(&samples::job());
        assert!(
            plan.env
                .contains(&("SUDO_UID".to_owned(), "1000".to_owned()))
        );
        assert_eq!(plan.result_owner.map(|owner| owner.uid), Some(1000));
    }
}
