//! The list of waiting builds as pollers of 2012 read it: one shape that holds the keys of all its revisions. Text
//! fields are joined by single spaces and never null, times are whole seconds.

use millrace_store::{LegacyBuild, LegacyProject, SourcePlace};
use serde::Serialize;

use crate::settings::Links;

/// Builds listed when the poller does not say how many.
const DEFAULT_LIMIT: u32 = 10;
/// Builds listed at most.
const MAX_LIMIT: u32 = 1000;

/// The whole answer.
#[derive(Debug, Default, Serialize)]
pub struct LegacyList {
    builds: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    id: i64,
    copr_id: i64,
    user_id: i64,
    pkgs: String,
    chroots: String,
    repos: String,
    submitted_on: i64,
    started_on: Option<i64>,
    ended_on: Option<i64>,
    results: Option<String>,
    canceled: bool,
    status: Option<i64>,
    timeout: u32,
    memory_reqs: u32,
    copr: Copr,
}

#[derive(Debug, Serialize)]
struct Copr {
    id: i64,
    name: String,
    owner_id: i64,
    repos: Option<String>,
    chroots: String,
    created_on: i64,
    owner: Owner,
}

#[derive(Debug, Serialize)]
struct Owner {
    id: i64,
    name: String,
}

impl LegacyList {
    /// The list of these builds, in their order.
    pub fn new(builds: &[LegacyBuild], links: &Links) -> Self {
        Self {
            builds: builds
                .iter()
                .map(|build| Entry::new(build, links))
                .collect(),
        }
    }

    /// Pretty-printed with `": "` after keys: the poller's own test looks for the text `"builds": []`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(self).unwrap_or_else(|_| b"{\"builds\": []}".to_vec());
        text.push(b'\n');
        text
    }
}

impl Entry {
    fn new(build: &LegacyBuild, links: &Links) -> Self {
        let project = &build.project;
        let pkgs = join(build.sources.iter().map(|source| match &source.place {
            SourcePlace::Url(url) => url.to_string(),
            SourcePlace::Stored { sha256, .. } => {
                links.source(&project.owner, &project.name, sha256, &source.name)
            }
        }));
        Self {
            id: build.id.0,
            copr_id: project.id.0,
            user_id: build.submitter_id,
            pkgs,
            chroots: join(&build.chroots),
            repos: join(&build.repositories),
            submitted_on: build.submitted_at.timestamp(),
            started_on: None,
            ended_on: None,
            results: None,
            canceled: false,
            status: None,
            timeout: build.limits.timeout_seconds,
            memory_reqs: build.limits.memory_mib,
            copr: Copr::new(project),
        }
    }
}

impl Copr {
    fn new(project: &LegacyProject) -> Self {
        Self {
            id: project.id.0,
            name: project.name.to_string(),
            owner_id: project.owner_id,
            repos: (!project.repositories.is_empty()).then(|| join(&project.repositories)),
            chroots: join(&project.chroots),
            created_on: project.created_at.timestamp(),
            owner: Owner {
                id: project.owner_id,
                name: project.owner.to_string(),
            },
        }
    }
}

fn join<T: ToString>(parts: impl IntoIterator<Item = T>) -> String {
    parts
        .into_iter()
        .map(|part| part.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// How many builds a query asks for. A poller of 2012 must never see a refusal: what is out of range is clamped,
/// what is no number is ignored.
pub fn limit_of(query: Option<&str>) -> u32 {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, text)) = pairs.into_iter().find(|(key, _)| key == "limit") else {
        return DEFAULT_LIMIT;
    };
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return DEFAULT_LIMIT;
    }
    if text.starts_with('-') {
        return 1;
    }
    digits.parse().unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use millrace_domain::{BuildId, Limits, ProjectId};
    use millrace_store::SourceView;
    use serde_json::{Value, json};

    fn build() -> LegacyBuild {
        let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 999_000_000).unwrap();
        LegacyBuild {
            id: BuildId(14),
            submitter_id: 1,
            sources: vec![
                SourceView {
                    position: 0,
                    name: "foo-1-1.src.rpm".parse().unwrap(),
                    place: SourcePlace::Url("http://host/foo-1-1.src.rpm".parse().unwrap()),
                },
                SourceView {
                    position: 1,
                    name: "spam-2-1.src.rpm".parse().unwrap(),
                    place: SourcePlace::Stored {
                        sha256: "00".to_owned(),
                        size: 7,
                    },
                },
            ],
            chroots: vec![
                "fedora-44-x86_64".parse().unwrap(),
                "fedora-44-aarch64".parse().unwrap(),
            ],
            repositories: Vec::new(),
            limits: Limits {
                memory_mib: 2048,
                timeout_seconds: 1800,
            },
            submitted_at: at(1_351_770_919),
            project: LegacyProject {
                id: ProjectId(3),
                name: "asd".parse().unwrap(),
                owner_id: 2,
                owner: "bkabrda".parse().unwrap(),
                chroots: vec!["fedora-44-x86_64".parse().unwrap()],
                repositories: Vec::new(),
                created_at: at(1_351_700_000),
            },
        }
    }

    #[test]
    fn an_entry_holds_the_keys_of_all_revisions() {
        let links = Links::new("http://m:8080").unwrap();
        let text = LegacyList::new(&[build()], &links).to_json();
        let list: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            list,
            json!({"builds": [{
                "id": 14, "copr_id": 3, "user_id": 1,
                "pkgs": "http://host/foo-1-1.src.rpm http://m:8080/results/bkabrda/asd/sources/00/spam-2-1.src.rpm",
                "chroots": "fedora-44-x86_64 fedora-44-aarch64", "repos": "",
                "submitted_on": 1_351_770_919, "started_on": null, "ended_on": null, "results": null,
                "canceled": false, "status": null, "timeout": 1800, "memory_reqs": 2048,
                "copr": {"id": 3, "name": "asd", "owner_id": 2, "repos": null,
                    "chroots": "fedora-44-x86_64", "created_on": 1_351_700_000,
                    "owner": {"id": 2, "name": "bkabrda"}}
            }]})
        );
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\n      \"id\": 14,\n"), "{text}");
    }

    #[test]
    fn an_empty_list_is_spelled_as_pollers_look_for_it() {
        assert_eq!(LegacyList::default().to_json(), b"{\n  \"builds\": []\n}\n");
    }

    #[test]
    fn a_limit_is_clamped_or_ignored_but_never_refused() {
        for (query, limit) in [
            (None, 10),
            (Some("shape=oct"), 10),
            (Some("limit=3"), 3),
            (Some("limit=0"), 1),
            (Some("limit=-7"), 1),
            (Some("limit=5000"), 1000),
            (Some("limit=99999999999999999999999"), 1000),
            (Some("limit=ten"), 10),
            (Some("limit="), 10),
            (Some("limit=%FF"), 10),
        ] {
            assert_eq!(limit_of(query), limit, "{query:?}");
        }
    }
}
