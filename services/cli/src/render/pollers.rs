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
