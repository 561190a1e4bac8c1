//! The network cut, seen from inside.

use millrace_sandbox::{NetworkSpec, Runtime, SandboxError, SandboxSpec, self_test_network};
use millrace_supervisor::{Network, Plan, REQUIRES_PATH, Rounds, Step, StepEnd};

use crate::harness::{Finished, Harness, profile, shell, supervisor};

const NETWORK: &str = "millrace-test-sandbox";

fn step(name: &str, script: &str, network: Option<Network>) -> Step {
    Step {
        name: name.to_owned(),
        network,
        ..shell(script)
    }
}

async fn run(harness: &Harness, plan: Plan, network: Option<&str>) -> Finished {
    harness
        .engine
        .ensure_network(&NetworkSpec::new(NETWORK))
        .await
        .unwrap();
    let spec = SandboxSpec {
        network: network.map(str::to_owned),
        ..harness.spec()
    };
    let runtime = Runtime::Engine(harness.engine.clone());
    let handle = runtime.start(&spec, &Harness::files(plan)).await.unwrap();
    harness.finish(handle).await
}

/// `echo` of what a step sees: a word for each link, a word for loopback.
fn see(name: &str) -> String {
    format!(
        "echo {name}: $(sed 1,2d /proc/net/dev | cut -d: -f1) routes=$(sed 1d /proc/net/route | wc -l); \
         python3 -c 'import socket; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); \
         c=socket.create_connection(s.getsockname(), 2); print(\"{name}: loopback works\")'"
    )
}

#[tokio::test]
async fn a_cut_step_has_loopback_only_and_a_connected_one_after_it_a_way_out() {
    let harness = Harness::open().await;
    let plan = Plan::new(
        vec![
            step("first", &see("first"), None),
            step("second", &see("second"), Some(Network::Cut)),
            step("third", &see("third"), Some(Network::Connected)),
            step("fourth", &see("fourth"), Some(Network::Cut)),
        ],
        60,
    );
    let finished = run(&harness, plan, Some(NETWORK)).await;
    assert!(
        finished.report().is_clean(),
        "{:?}\n{}",
        finished.report(),
        finished.log
    );
    let line = |name: &str| {
        let line = finished.log.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", finished.log))
            .to_owned()
    };
    for name in ["first: ", "third: "] {
        assert!(
            line(name).contains("eth") && !line(name).contains("routes=0"),
            "{}",
            line(name)
        );
    }
    for name in ["second: ", "fourth: "] {
        assert!(
            !line(name).contains("eth") && line(name).contains("routes=0"),
            "{}",
            line(name)
        );
        assert!(finished.log.contains(&format!("{name}loopback works")));
    }
}

#[tokio::test]
async fn a_sandbox_without_a_network_counts_as_cut() {
    let harness = Harness::open().await;
    let plan = Plan::new(vec![step("only", "echo ran", Some(Network::Cut))], 60);
    let finished = run(&harness, plan, None).await;
    assert!(finished.report().is_clean() && finished.log == "ran\n");
}

#[tokio::test]
async fn what_asks_for_a_network_that_is_not_there_is_not_started() {
    let harness = Harness::open().await;
    let mut plan = Plan::new(vec![step("only", "echo ran", Some(Network::Connected))], 3);
    plan.timeout_grace_seconds = 1;
    let finished = run(&harness, plan, None).await;
    assert!(matches!(
        finished.report().steps[0].end,
        StepEnd::NotStarted(_)
    ));
    assert!(finished.report().timed_out() && !finished.log.contains("ran"));
}

#[tokio::test]
async fn requirements_found_while_cut_are_installed_connected_in_rounds() {
    let harness = Harness::open().await;
    // Asks for something twice, and is content then.
    let build = "n=$(cat /tmp/have 2>/dev/null | wc -l); [ $n = 2 ] && exit 0; \
                 mkdir -p /var/tmp/root-$n/SRPMS; echo need $n > /var/tmp/root-$n/SRPMS/x.buildreqs.nosrc.rpm; exit 30";
    let install = format!(
        "cat {REQUIRES_PATH} >> /tmp/have; echo install: $(sed 1,2d /proc/net/dev | cut -d: -f1)"
    );
    let mut step = step("rebuild", build, Some(Network::Cut));
    step.rounds = Some(Rounds {
        exit_codes: vec![30],
        folder: "/var/tmp/*/SRPMS".to_owned(),
        suffix: ".buildreqs.nosrc.rpm".to_owned(),
        install: Box::new(Step {
            name: "install".to_owned(),
            network: Some(Network::Connected),
            ..shell(&install)
        }),
        at_most: 10,
    });
    let finished = run(&harness, Plan::new(vec![step], 60), Some(NETWORK)).await;
    let report = finished.report();
    assert_eq!(
        (report.rounds, report.exit_code()),
        (2, Some(0)),
        "{}",
        finished.log
    );
    assert_eq!(finished.log.matches("install: ").count(), 2);
    assert!(finished.log.contains("eth"), "{}", finished.log);
}

#[tokio::test]
async fn rounds_end_where_nothing_new_is_asked_for() {
    let harness = Harness::open().await;
    let mut step = step("rebuild", "exit 30", Some(Network::Cut));
    step.rounds = Some(Rounds {
        exit_codes: vec![30],
        folder: "/var/tmp/none".to_owned(),
        suffix: ".rpm".to_owned(),
        install: Box::new(shell("echo never")),
        at_most: 10,
    });
    let finished = run(&harness, Plan::new(vec![step], 60), Some(NETWORK)).await;
    assert_eq!(finished.report().exit_code(), Some(30));
    assert_eq!((finished.report().rounds, finished.log.as_str()), (0, ""));
}

#[tokio::test]
async fn an_engine_that_cuts_passes_and_a_network_that_is_none_does_not() {
    let harness = Harness::open().await;
    let network = NetworkSpec::new(NETWORK);
    harness.engine.ensure_network(&network).await.unwrap();
    let test = async |network: &NetworkSpec| {
        let program = supervisor();
        self_test_network(
            &harness.engine,
            harness.builder,
            profile(),
            &program,
            network,
        )
        .await
    };
    test(&network).await.unwrap();
    // The engine's own word for "no network": there is nothing to cut, and nothing to install from.
    let none = test(&NetworkSpec::new("none")).await.unwrap_err();
    assert!(matches!(none, SandboxError::NetworkFailed { .. }), "{none}");
    harness.assert_empty().await;
}
