//! Pollers of 2012 as text.

use serde_json::Value;

use super::{items, plain, status};

fn word(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

/// What a poller is configured with, shown once.
pub fn access(access: &Value) -> String {
    format!(
        "poller {} ({})\nfrontend_url: {}\npassword:     {}\nBoth are shown this once.\n",
        word(&access["name"]),
        word(&access["mode"]),
        word(&access["url"]),
        word(&access["secret"])
    )
}

/// A line for each poller.
pub fn pollers(list: &Value) -> String {
    items(list, "there is no poller", |poller| {
        let polls = if poller["alive"] == true {
            "polls"
        } else {
            "silent"
        };
        format!(
            "{}  {}  {polls}, last list {}, last report {}\n",
            word(&poller["name"]),
            word(&poller["mode"]),
            word(&poller["fetched_at"]),
            word(&poller["reported_at"])
        )
    })
}

/// What a poller would be answered, was answered, said and has.
pub fn lens(lens: &Value) -> String {
    let owned = |task: &Value| {
        format!(
            "has build {} in {}: {} since {} until {}\n",
            task["build_id"],
            word(&task["chroot"]),
            word(&task["state"]),
            word(&task["since"]),
            word(&task["until"])
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
        status(&lens["poller"]),
        lens["fetched"],
        plain(&lens["reported"].to_string()),
        plain(&word(&lens["answer"]))
    )
}
