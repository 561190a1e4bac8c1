//! Each rule is shown a system that is well, and one that is broken in just its way.

mod healthy;
mod variants;

use std::collections::BTreeSet;

use healthy::{BAD, attempt, healthy};
use serde_json::json;
use variants::VARIANTS;

use super::*;
use crate::chaos::CancelAnswer;

#[test]
fn a_system_that_is_well_passes() {
    assert_eq!(check(&healthy()), []);
}

#[test]
fn a_cancelled_build_may_count_one_attempt_less() {
    let mut facts = healthy();
    facts.known.cancels.insert(2, CancelAnswer::Accepted);
    facts.tasks[1].state = "cancelled".to_owned();
    facts.tasks[1].outcome = Some(json!({ "kind": "cancelled" }));
    facts.attempts[2] = attempt(BAD, 2, 1, "lost", "builder_lost");
    assert_eq!(check(&facts), []);
}

#[test]
fn each_broken_variant_is_caught_by_its_rule() {
    for (number, (rule, break_it)) in VARIANTS.iter().enumerate() {
        let mut facts = healthy();
        break_it(&mut facts);
        let caught = check(&facts)
            .into_iter()
            .any(|violation| violation.rule == *rule);
        assert!(caught, "variant {number} passes the rule {rule:?}");
    }
}

#[test]
fn each_rule_has_a_broken_variant() {
    let shown: BTreeSet<&str> = VARIANTS.iter().map(|(rule, _)| *rule).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(rules, shown);
}
