//! Whether RabbitMQ can be used, as this frontend sees it: by its connections, and by what came of the last orders. A
//! frozen broker leaves orders unconfirmed long before its connection is given up.

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::LinkState;

use crate::state::AppState;

/// Why the broker cannot be used, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For people.
    pub reason: String,
    /// The first sign of it.
    pub since: DateTime<Utc>,
}

/// What is wrong with the broker; none while all is well.
pub fn trouble(state: &AppState) -> Option<Trouble> {
    // Publishing decides what waits, so its trouble is told first.
    let links = [state.bus.publishing(), state.bus.consuming()];
    let link = links.iter().find_map(|link| of_link(&link.borrow()));
    of(link, state.broker_away.since())
}

fn of(link: Option<Trouble>, first_sign: Option<DateTime<Utc>>) -> Option<Trouble> {
    match (link, first_sign) {
        (Some(link), Some(sign)) => Some(Trouble {
            since: link.since.min(sign),
            ..link
        }),
        (None, Some(since)) => Some(Trouble {
            reason: "it does not confirm what is published".to_owned(),
            since,
        }),
        (link, None) => link,
    }
}

fn of_link(link: &LinkState) -> Option<Trouble> {
    let (since, reason) = match link {
        LinkState::Up => return None,
        LinkState::Down { since, reason } => (since, reason.to_string()),
        LinkState::Blocked { since, reason } => (since, format!("blocked: {reason}")),
    };
    let ago = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
    Some(Trouble {
        reason,
        since: Utc::now() - ago,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_outage_began_with_its_first_sign() {
        let link = of_link(&LinkState::Blocked {
            since: Instant::now(),
            reason: "memory".into(),
        });
        assert_eq!(link.as_ref().unwrap().reason, "blocked: memory");
        assert_eq!(of(link.clone(), None), link);
        let sign = Utc::now() - TimeDelta::seconds(5);
        let both = of(link, Some(sign)).unwrap();
        assert_eq!(
            (both.since, both.reason.as_str()),
            (sign, "blocked: memory")
        );
        assert_eq!(of(None, Some(sign)).unwrap().since, sign);
        assert_eq!(of(of_link(&LinkState::Up), None), None);
    }
}
