//! Finds in a bake's log why it failed: in mock's own words or the package manager's. mock says "Command failed:" first,
//! the command in the next line, and what the command said before or after these.

/// Longest reason, in characters.
const MAX_REASON: usize = 500;
/// Most lines that make up a reason.
const MAX_LINES: usize = 3;
/// mock's header of a failed command. It is no reason.
const COMMAND_FAILED: &str = "ERROR: Command failed:";

/// What package managers, rpm and mount say when they fail, at the beginning of a line.
const BEGINNINGS: &[&str] = &[
    "Error: ",
    "Error:",
    "error: ",
    "Failed to download metadata",
    "Failed to resolve the transaction",
    "Failed to synchronize cache",
    "Cache-only enabled but no cache",
    "No match for argument",
    "Problem:",
    "Transaction failed",
    "Rpm transaction failed",
    "Cannot download",
    "Curl error",
    "mount: ",
];
/// The same, anywhere in a line.
const ANYWHERE: &[&str] = &[
    "nothing provides ",
    "No space left on device",
    "GPG check FAILED",
    "is not signed",
    "Cannot allocate memory",
    "Operation not permitted",
    "Permission denied",
];

/// Why the bake failed, in one line.
pub(crate) fn reason_in(log: &str) -> String {
    let all: Vec<&str> = log.lines().map(last_on_screen).collect();
    // What an earlier try of the package manager said was overcome.
    let begin = all.iter().rposition(|line| is_retry(line));
    let lines = &all[begin.map_or(0, |at| at + 1)..];
    let failed = lines
        .iter()
        .position(|line| line.starts_with(COMMAND_FAILED));
    let said = || lines.iter().position(|line| is_tools_word(line.trim()));
    let own = || lines.iter().position(|line| is_mocks_reason(line));
    let found = match failed {
        Some(_) => said().or_else(own),
        None => own().or_else(said),
    };
    let reason = match (found, failed) {
        (Some(at), _) => sentence(&lines[at..]),
        (None, Some(at)) => behind_command(&lines[at + 1..]),
        (None, None) => last_line(lines).to_owned(),
    };
    let plain: String = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect();
    if plain.is_empty() {
        "it said nothing".to_owned()
    } else {
        plain
    }
}

/// What a terminal would show of a line: the package manager draws its progress over itself.
fn last_on_screen(line: &str) -> &str {
    line.trim_end().rsplit('\r').next().unwrap_or_default()
}

fn is_retry(line: &str) -> bool {
    line.contains(" command failed, retrying, attempt #")
}

fn is_tools_word(line: &str) -> bool {
    BEGINNINGS.iter().any(|words| line.starts_with(words))
        || ANYWHERE.iter().any(|words| line.contains(words))
}

/// Whether a line is mock's own reason; a failed command and a summary are none.
fn is_mocks_reason(line: &str) -> bool {
    line.strip_prefix("ERROR: ").is_some_and(|text| {
        !text.trim().is_empty()
            && !text.starts_with("Exception(")
            && !line.starts_with(COMMAND_FAILED)
    })
}

/// A line with those that explain it: what follows a colon at its end, or is indented below it.
fn sentence(lines: &[&str]) -> String {
    let mut text = lines[0].trim().to_owned();
    for line in lines.iter().skip(1).take(MAX_LINES - 1) {
        let is_more = text.ends_with(':') || line.starts_with(' ');
        if !is_more || line.trim().is_empty() {
            break;
        }
        text.push(' ');
        text.push_str(line.trim());
    }
    text
}

/// What stands below the failed command, or else the command.
fn behind_command(lines: &[&str]) -> String {
    let command = lines.first().map_or("", |line| line.trim());
    let said = lines.iter().skip(1).find(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("Finish: ") && !line.starts_with("INFO: ")
    });
    let command = command.trim_start_matches("# ");
    match said {
        Some(said) => format!("{} (the command was {command})", said.trim()),
        None => format!("a command failed without a word: {command}"),
    }
}

fn last_line<'a>(lines: &[&'a str]) -> &'a str {
    let mut lines = lines.iter().rev().map(|line| line.trim());
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mocks_own_error_is_the_reason_where_no_command_failed() {
        let log = "INFO: mock starting\nStart: run\nERROR: Could not find required config file: /etc/mock/x.cfg\nERROR: Exception(x)\n";
        assert_eq!(
            reason_in(log),
            "ERROR: Could not find required config file: /etc/mock/x.cfg"
        );
        assert_eq!(reason_in("a\n\u{1b}[2Jb\n\n"), "[2Jb");
        assert_eq!(reason_in(""), "it said nothing");
    }

    #[test]
    fn a_failed_command_is_told_in_the_package_managers_words() {
        let failed = "ERROR: Command failed: \n # /usr/bin/dnf-3 --installroot /var/lib/mock/x/root/ install bash\n";
        let dnf4 = "Errors during downloading metadata for repository 'minidist':\n  - Status code: 404 for http://h/x\n\
                    Error: Failed to download metadata for repo 'minidist': Cannot download repomd.xml: All mirrors were tried\n";
        let dnf5 = "Failed to download metadata (baseurl: \"http://h/x\") for repository \"fedora\"\n Librepo error: Cannot download repomd.xml\n";
        for (words, reason) in [
            (
                dnf4,
                "Error: Failed to download metadata for repo 'minidist': Cannot download repomd.xml: All mirrors were tried",
            ),
            (
                dnf5,
                "Failed to download metadata (baseurl: \"http://h/x\") for repository \"fedora\" Librepo error: Cannot download repomd.xml",
            ),
            (
                "Error: Unable to find a match: nosuch\n",
                "Error: Unable to find a match: nosuch",
            ),
            (
                "Error: \n Problem: conflicting requests\n  - nothing provides x needed by y\n",
                "Error: Problem: conflicting requests - nothing provides x needed by y",
            ),
            (
                "Failed to resolve the transaction:\nNo match for argument: nosuch\n",
                "Failed to resolve the transaction: No match for argument: nosuch",
            ),
            (
                "Error: Error downloading packages:\n  Cannot download a.rpm: All mirrors were tried\n",
                "Error: Error downloading packages: Cannot download a.rpm: All mirrors were tried",
            ),
        ] {
            assert_eq!(
                reason_in(&format!("Start: run\n{words}{failed}")),
                reason,
                "before"
            );
            assert_eq!(
                reason_in(&format!("Start: run\n{failed}{words}")),
                reason,
                "after"
            );
        }
    }

    #[test]
    fn a_command_without_known_words_is_told_with_what_it_said() {
        let failed = "ERROR: Command failed: \n # /usr/sbin/useradd -o mockbuild\n";
        assert_eq!(
            reason_in(&format!("{failed}useradd: cannot lock /etc/passwd\n")),
            "useradd: cannot lock /etc/passwd (the command was /usr/sbin/useradd -o mockbuild)"
        );
        assert_eq!(
            reason_in(failed),
            "a command failed without a word: /usr/sbin/useradd -o mockbuild"
        );
    }

    #[test]
    fn only_the_last_try_counts() {
        let log = "Error: Failed to download metadata for repo 'a'\n\
                   WARNING: DNF command failed, retrying, attempt #2, sleeping 3s\n\
                   \u{1b}[Kdrawn over\rError: Unable to find a match: nosuch\r\n\
                   ERROR: Command failed: \n # /usr/bin/dnf install nosuch\n";
        assert_eq!(reason_in(log), "Error: Unable to find a match: nosuch");
    }
}
