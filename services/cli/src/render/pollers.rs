//! Pollers of 2012 as text.

use serde_json::Value;

use crate::render::fields;
use crate::render::text::{items, sanitize};

/// Text, or a dash where there is none.
fn text_or_dash(value: &Value) -> String {
    sanitize(value.as_str().unwrap_or("-"))
}

/// The address and password that a poller is to be configured with.
pub fn access(access: &Value) -> String {
    format!(
        "poller {} ({})\nfrontend_url: {}\npassword:     {}\nBoth are shown this once.\n",
        text_or_dash(&access["name"]),
        text_or_dash(&access["mode"]),
        text_or_dash(&access["url"]),
        text_or_dash(&access["secret"])
    )
}

/// One line per poller: its mode, whether it polls, and the times of its last list and report.
pub fn list(list: &Value) -> String {
    items(list, "there is no poller", |poller| {
        let polls = if poller["alive"] == true {
            "polls"
        } else {
            "silent"
        };
        format!(
            "{}  {}  {polls}, last list {}, last report {}\n",
            text_or_dash(&poller["name"]),
            text_or_dash(&poller["mode"]),
            text_or_dash(&poller["fetched_at"]),
            text_or_dash(&poller["reported_at"])
        )
    })
}

/// What a poller was answered and reported last, the tasks it has, and what it would be answered now.
pub fn lens(lens: &Value) -> String {
    let owned = |task: &Value| {
        format!(
            "has build {} in {}: {} since {} until {}\n",
            task["build_id"],
            text_or_dash(&task["chroot"]),
            text_or_dash(&task["state"]),
            text_or_dash(&task["since"]),
            text_or_dash(&task["until"])
        )
    };
    let owned: String = lens["owned"]
        .as_array()
        .into_iter()
        .flatten()
        .map(owned)
        .collect();
    format!(
        "{}last list: {}\nlast report: {}\n{owned}the answer now:\n{}",
        fields::lines(&lens["poller"]),
        lens["fetched"],
        sanitize(&lens["reported"].to_string()),
        sanitize(&text_or_dash(&lens["answer"]))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_access_of_a_new_poller_is_shown_with_address_and_password() {
        let new = json!({"name": "p1", "mode": "observe", "url": "http://h/p1", "secret": "s3"});
        assert_eq!(
            access(&new),
            "poller p1 (observe)\nfrontend_url: http://h/p1\npassword:     s3\n\
             Both are shown this once.\n"
        );
    }

    #[test]
    fn a_poller_that_never_reported_has_a_dash_in_place_of_the_time() {
        let page = json!({"items": [
            {"name": "p1", "mode": "execute", "alive": true, "fetched_at": "10:00", "reported_at": null},
            {"name": "p2", "mode": "observe", "alive": false},
        ]});
        assert_eq!(
            list(&page),
            "p1  execute  polls, last list 10:00, last report -\n\
             p2  observe  silent, last list -, last report -\n"
        );
        assert_eq!(list(&json!({"items": []})), "there is no poller\n");
    }

    #[test]
    fn a_lens_shows_what_a_poller_fetched_reported_and_has() {
        let shown = lens(&json!({
            "poller": {"name": "p1"},
            "fetched": [5],
            "reported": {"id": 5},
            "owned": [{"build_id": 5, "chroot": "a-1-x", "state": "claimed", "since": "10:00", "until": null}],
            "answer": "{\"builds\":\r []}\u{1b}",
        }));
        assert_eq!(
            shown,
            "name: p1\nlast list: [5]\nlast report: {\"id\":5}\n\
             has build 5 in a-1-x: claimed since 10:00 until -\n\
             the answer now:\n{\"builds\": []}\u{fffd}"
        );
    }
}
