//! The list of waiting builds as pollers of 2012 read it: one shape that holds the keys of all revisions. Lists are
//! texts joined by single spaces and never null, times are whole seconds since 1970.

use millrace_store::{LegacyBuild, LegacyProject, SourcePlace};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::links::Links;

/// Keys of one revision of the list.
struct Keys {
    build: &'static [&'static str],
    copr: &'static [&'static str],
}

/// Keys of October 2012, as the first document of that time shows them.
const OCT: Keys = Keys {
    build: &[
        "canceled",
        "chroots",
        "copr",
        "copr_id",
        "ended_on",
        "id",
        "pkgs",
        "results",
        "started_on",
        "submitted_on",
        "user_id",
    ],
    copr: &["chroots", "id", "name", "owner_id", "repos"],
};
/// Keys of November 2012, as the second document's "New Draft" shows them.
const NOV: Keys = Keys {
    build: &[
        "canceled",
        "chroots",
        "copr",
        "ended_on",
        "id",
        "memory_reqs",
        "pkgs",
        "repos",
        "results",
        "started_on",
        "submitted_on",
        "timeout",
        "user_id",
    ],
    copr: &["id", "name", "owner"],
};

/// Which keys the builds of the list have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Keys of all revisions and of the code of 2012; enough for any client that looks keys up.
    All,
    /// Keys of October 2012 alone, for clients that refuse others.
    Oct,
    /// Keys of November 2012 alone, for clients that refuse others.
    Nov,
}

/// The whole answer: what a poller parses.
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
    /// Lists these builds, in their order.
    pub fn new(builds: &[LegacyBuild], links: &Links) -> Self {
        Self {
            builds: builds
                .iter()
                .map(|build| Entry::new(build, links))
                .collect(),
        }
    }

    /// Numbers of the listed builds, in order.
    pub fn ids(&self) -> Vec<i64> {
        self.builds.iter().map(|entry| entry.id).collect()
    }

    /// JSON with a line for each key and `": "` after it: the test of 2012 looks for the text `"builds": []`.
    pub fn to_json(&self, shape: Shape) -> Vec<u8> {
        let text = match shape {
            Shape::All => serde_json::to_vec_pretty(self),
            Shape::Oct => serde_json::to_vec_pretty(&self.only(&OCT)),
            Shape::Nov => serde_json::to_vec_pretty(&self.only(&NOV)),
        };
        let mut text = text.unwrap_or_else(|_| b"{\"builds\": []}".to_vec());
        text.push(b'\n');
        text
    }

    fn only(&self, keys: &Keys) -> Value {
        let mut list = serde_json::to_value(self).unwrap_or_else(|_| json!({ "builds": [] }));
        for build in list["builds"].as_array_mut().into_iter().flatten() {
            retain_keys(build, keys.build);
            retain_keys(&mut build["copr"], keys.copr);
        }
        list
    }
}

fn retain_keys(object: &mut Value, keys: &[&str]) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|key, _| keys.contains(&key.as_str()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use millrace_domain::{BuildId, Limits, ProjectId};
    use millrace_store::SourceView;

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
        let text = LegacyList::new(&[build()], &links).to_json(Shape::All);
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
        assert_eq!(
            LegacyList::default().to_json(Shape::All),
            b"{\n  \"builds\": []\n}\n"
        );
    }

    #[test]
    fn a_strict_client_gets_the_keys_of_its_own_revision() {
        let list = LegacyList::new(&[build()], &Links::new("http://m:8080").unwrap());
        let shaped = |shape| -> Value { serde_json::from_slice(&list.to_json(shape)).unwrap() };
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        for (shape, expected) in [(Shape::Oct, OCT), (Shape::Nov, NOV)] {
            let shaped = shaped(shape);
            assert_eq!(keys(&shaped["builds"][0]), expected.build, "{shape:?}");
            assert_eq!(
                keys(&shaped["builds"][0]["copr"]),
                expected.copr,
                "{shape:?}"
            );
        }
    }
}
