//! The command line of each command: what is needed, what is refused, and the values of what is not given.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use millrace_domain::{BuildState, Fence, PollerMode, Priority};
use serde_json::json;

use super::*;

/// The words of a command line behind `millrace`, separated by spaces.
fn parse(line: &str) -> Result<Args, ErrorKind> {
    let words = std::iter::once("millrace").chain(line.split(' '));
    Args::try_parse_from(words).map_err(|error| error.kind())
}

fn command(line: &str) -> Command {
    parse(line).unwrap().command
}

fn refused(line: &str) -> ErrorKind {
    parse(line).unwrap_err()
}

fn submit(line: &str) -> Submit {
    match command(line) {
        Command::Submit(submit) => submit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn flags_that_all_commands_have_may_stand_before_and_behind_the_command() {
    for line in [
        "--url http://h --token t --project a/b --json status",
        "status --url http://h --token t --project a/b --json",
    ] {
        let args = parse(line).unwrap();
        assert_eq!(args.connection.url.as_deref(), Some("http://h"));
        assert_eq!(args.connection.token.as_deref(), Some("t"));
        assert_eq!(args.connection.project.as_deref(), Some("a/b"));
        assert!(args.json, "{line}");
    }
    assert!(!parse("status").unwrap().json);
}

#[test]
fn help_does_not_show_the_secrets_of_the_environment() {
    let mut secrets = Vec::new();
    let mut commands = vec![Args::command()];
    while let Some(command) = commands.pop() {
        for arg in command.get_arguments() {
            let name = arg
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|n| n.ends_with("TOKEN") || n.ends_with("SECRET")) {
                assert!(arg.is_hide_env_values_set(), "{name}");
                secrets.push(name);
            }
        }
        commands.extend(command.get_subcommands().cloned());
    }
    assert_eq!(secrets, ["MILLRACE_TOKEN", "MILLRACE_POLLER_SECRET"]);
}

#[test]
fn a_submit_needs_a_source_and_a_chroot() {
    assert_eq!(refused("submit"), ErrorKind::MissingRequiredArgument);
    assert_eq!(
        refused("submit a.src.rpm"),
        ErrorKind::MissingRequiredArgument
    );
    assert_eq!(
        refused("submit -r a-1-x"),
        ErrorKind::MissingRequiredArgument
    );
}

#[test]
fn chroots_are_repeated_or_separated_by_commas_and_sources_stay_in_order() {
    let given = submit("submit b.src.rpm http://h/a.src.rpm -r a-1-x,b-1-x --chroot c-1-x");
    assert_eq!(given.sources, ["b.src.rpm", "http://h/a.src.rpm"]);
    assert_eq!(given.chroots, ["a-1-x", "b-1-x", "c-1-x"]);
    assert!(given.priority.is_none() && given.repositories.is_empty());
    assert!(!given.waiting.wait && !given.waiting.follow);
}

#[test]
fn a_submit_has_limits_repositories_a_priority_and_ways_to_wait() {
    let given = submit(
        "submit a -r x --memory 4096 --timeout 60 --disk 9 --repo http://h/1 --repo http://h/2 \
         --priority high --wait -f",
    );
    let limits = (given.limits.memory, given.limits.timeout, given.limits.disk);
    assert_eq!(limits, (Some(4096), Some(60), Some(9)));
    assert_eq!(given.repositories, ["http://h/1", "http://h/2"]);
    assert_eq!(given.priority, Some(Priority::High));
    assert!(given.waiting.wait && given.waiting.follow);
    for line in [
        "submit a -r x --memory lots",
        "submit a -r x --priority urgent",
    ] {
        assert_eq!(refused(line), ErrorKind::ValueValidation, "{line}");
    }
}

#[test]
fn disk_space_that_is_not_asked_for_is_not_in_the_request() {
    let mut body = json!({});
    submit("submit a -r x --memory 5").limits.add_to(&mut body);
    assert_eq!(body, json!({"memory_reqs": 5, "timeout": null}));
    submit("submit a -r x --disk 7").limits.add_to(&mut body);
    assert_eq!(body["disk"], 7);
}

#[test]
fn a_list_has_1_to_100_builds_a_page_and_20_unless_told() {
    let Command::List(list) = command("list") else {
        panic!("not a list");
    };
    assert_eq!((list.limit, list.state, list.before), (20, None, None));
    let Command::List(list) = command("list --state failed --limit 100 --before 9") else {
        panic!("not a list");
    };
    let given = (list.limit, list.state, list.before);
    assert_eq!(given, (100, Some(BuildState::Failed), Some(9)));
    for line in [
        "list --limit 0",
        "list --limit 101",
        "list --state lost",
        "parked list --limit 0",
        "parked list --limit 101",
    ] {
        assert_eq!(refused(line), ErrorKind::ValueValidation, "{line}");
    }
}

#[test]
fn a_build_is_named_by_its_number() {
    for name in ["show", "log", "cancel", "resubmit", "download"] {
        assert!(parse(&format!("{name} 7")).is_ok(), "{name}");
        assert_eq!(refused(&format!("{name} x")), ErrorKind::ValueValidation);
        assert_eq!(refused(name), ErrorKind::MissingRequiredArgument);
    }
}

#[test]
fn a_log_is_chosen_by_chroot_and_attempt() {
    let Command::Log(log) = command("log 7 -r a-1-x --attempt 2 -f") else {
        panic!("not a log");
    };
    assert_eq!((log.build, log.chroot.as_deref()), (7, Some("a-1-x")));
    assert_eq!((log.attempt, log.follow), (Some(2), true));
}

#[test]
fn a_download_goes_to_the_working_folder_unless_told() {
    let Command::Download(download) = command("download 7") else {
        panic!("not a download");
    };
    assert_eq!(download.dest, std::path::Path::new("."));
    assert!(download.chroot.is_none());
}

#[test]
fn a_project_is_changed_by_on_and_off_only() {
    for (word, value) in [("on", true), ("off", false)] {
        let line = format!("project set a/b --auto-raise {word}");
        let Command::Project {
            command: ProjectCommand::Set { auto_raise, .. },
        } = command(&line)
        else {
            panic!("not a change");
        };
        assert_eq!(auto_raise, Some(value));
    }
    let wrong = "project set a/b --auto-raise true";
    assert_eq!(refused(wrong), ErrorKind::ValueValidation);
    assert_eq!(
        refused("project set a/b"),
        ErrorKind::MissingRequiredArgument
    );
}

#[test]
fn a_new_poller_only_observes_unless_told() {
    let Command::Poller {
        command: PollerCommand::Add(new),
    } = command("poller add p1")
    else {
        panic!("not a poller");
    };
    assert_eq!((new.mode, new.fence), (PollerMode::Observe, Fence::Ignore));
    assert_eq!(new.share, 100);
    assert!(new.projects.is_empty() && new.chroots.is_empty());
    let wrong = "poller add p1 --share 101";
    assert_eq!(refused(wrong), ErrorKind::ValueValidation);
}

#[test]
fn imported_builds_go_to_the_queue_or_to_a_poller_but_not_to_both() {
    let both = "import f.json --release --poller p1";
    assert_eq!(refused(both), ErrorKind::ArgumentConflict);
    assert!(parse("import f.json --release").is_ok());
    assert!(parse("import f.json --poller p1").is_ok());
}

#[test]
fn a_word_that_is_no_command_and_a_missing_one_are_refused() {
    assert_eq!(refused("build"), ErrorKind::InvalidSubcommand);
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    for line in ["chroot", "parked", "builder", "project", "poller"] {
        assert_eq!(refused(line), help, "{line}");
    }
}
