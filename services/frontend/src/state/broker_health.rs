//! Whether RabbitMQ can be used, as this frontend sees it: by the state of its connections, and by whether the last
//! orders were confirmed. A frozen broker leaves orders unconfirmed long before its connection is given up.

use chrono::{DateTime, TimeDelta, Utc};
use millrace_bus::LinkState;

use crate::state::AppState;

/// Why the broker cannot be used, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerProblem {
    /// Shown to people in the status.
    pub reason: String,
    /// When the first sign of it was seen.
    pub since: DateTime<Utc>,
}

/// What is wrong with the broker; none while it can be used.
pub fn broker_problem(state: &AppState) -> Option<BrokerProblem> {
    // Tasks wait for the publishing connection, so its problem comes first.
    let links = [state.bus.publishing(), state.bus.consuming()];
    let link = links.iter().find_map(|link| link_problem(&link.borrow()));
    combine(link, state.broker_outage.since())
}

/// One problem out of two signs: the connection's reason, and the earlier beginning.
fn combine(
    link: Option<BrokerProblem>,
    first_sign: Option<DateTime<Utc>>,
) -> Option<BrokerProblem> {
    match (link, first_sign) {
        (Some(link), Some(sign)) => Some(BrokerProblem {
            since: link.since.min(sign),
            ..link
        }),
        (None, Some(since)) => Some(BrokerProblem {
            reason: "it does not confirm what is published".to_owned(),
            since,
        }),
        (link, None) => link,
    }
}

fn link_problem(link: &LinkState) -> Option<BrokerProblem> {
    let (since, reason) = match link {
        LinkState::Up => return None,
        LinkState::Down { since, reason } => (since, reason.to_string()),
        LinkState::Blocked { since, reason } => (since, format!("blocked: {reason}")),
    };
    let ago = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
    Some(BrokerProblem {
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
        let link = link_problem(&LinkState::Blocked {
            since: Instant::now(),
            reason: "memory".into(),
        });
        assert_eq!(link.as_ref().unwrap().reason, "blocked: memory");
        assert_eq!(combine(link.clone(), None), link);
        let sign = Utc::now() - TimeDelta::seconds(5);
        let both = combine(link, Some(sign)).unwrap();
        assert_eq!(
            (both.since, both.reason.as_str()),
            (sign, "blocked: memory")
        );
        assert_eq!(combine(None, Some(sign)).unwrap().since, sign);
        assert_eq!(combine(link_problem(&LinkState::Up), None), None);
    }
}
