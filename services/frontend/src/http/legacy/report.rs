//! Parses the reports that pollers post. Keys that have no effect are ignored, null means no change, and times come
//! with fractions of seconds.

use millrace_store::PollerReport;
use serde_json::Value;

/// Builds in one report at most.
const MAX_ENTRIES: usize = 1000;

/// Parses a report; the error is the sentence that the poller gets.
pub fn parse_report(body: &[u8]) -> Result<Vec<PollerReport>, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let Some(builds) = value.get("builds") else {
        return Err("the key builds is missing".to_owned());
    };
    let Some(builds) = builds.as_array() else {
        return Err("builds is no list".to_owned());
    };
    if builds.len() > MAX_ENTRIES {
        return Err(format!("more than {MAX_ENTRIES} builds"));
    }
    builds
        .iter()
        .enumerate()
        .map(|(at, build)| entry(at, build))
        .collect()
}

fn entry(at: usize, build: &Value) -> Result<PollerReport, String> {
    if !build.is_object() {
        return Err(format!("builds[{at}] is no object"));
    }
    let id = whole(at, "id", &build["id"])?.ok_or_else(|| format!("builds[{at}].id is missing"))?;
    let results = match &build["results"] {
        Value::Null => None,
        // A malformed address is treated like an absent one.
        Value::String(text) => text.parse().ok(),
        _ => return Err(format!("builds[{at}].results is no text")),
    };
    Ok(PollerReport {
        id,
        results,
        started_on: whole(at, "started_on", &build["started_on"])?,
        ended_on: whole(at, "ended_on", &build["ended_on"])?,
        status: whole(at, "status", &build["status"])?,
    })
}

/// A number with its fraction dropped; none for null.
fn whole(at: usize, key: &str, value: &Value) -> Result<Option<i64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the fraction is to be dropped, and numbers out of range saturate"
            )]
            let truncated = || number.as_f64().map(|seconds| seconds as i64);
            Ok(number.as_i64().or_else(truncated))
        }
        _ => Err(format!("builds[{at}].{key} is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<PollerReport>, String> {
        parse_report(text.as_bytes())
    }

    #[test]
    fn times_lose_their_fraction_and_nulls_and_other_keys_are_left_alone() {
        let report = parse(
            r#"{"builds": [{"id": 5, "started_on": 1351157544.86, "ended_on": null, "copr_id": 99, "status": 0,
                "results": "http://copr-be/results/owner/project/"}]}"#,
        );
        let expected = PollerReport {
            id: 5,
            results: "http://copr-be/results/owner/project/".parse().ok(),
            started_on: Some(1_351_157_544),
            ended_on: None,
            status: Some(0),
        };
        assert_eq!(report, Ok(vec![expected]));
        assert_eq!(parse(r#"{"builds": []}"#), Ok(Vec::new()));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (body, reason) in [
            ("", "no JSON"),
            ("{\"builds\": [NaN]}", "no JSON"),
            ("[]", "builds is missing"),
            ("{}", "builds is missing"),
            ("{\"builds\": {}}", "no list"),
            ("{\"builds\": [7]}", "builds[0] is no object"),
            ("{\"builds\": [{}]}", "builds[0].id is missing"),
            (
                "{\"builds\": [{\"id\": \"x\"}]}",
                "builds[0].id is no number",
            ),
            (
                "{\"builds\": [{\"id\": 1}, {\"id\": 1, \"status\": true}]}",
                "builds[1].status",
            ),
            (
                "{\"builds\": [{\"id\": 1, \"results\": 1}]}",
                "results is no text",
            ),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
        let many = vec!["{\"id\":1}"; MAX_ENTRIES + 1].join(",");
        assert!(parse(&format!("{{\"builds\": [{many}]}}")).is_err());
    }
}
