//! What a poller of 2012 reads of a build. A key that is missing, or a null in the place of a text, ends its worker.

use serde_json::Value;

/// A build as its worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// URLs of source packages.
    pub pkgs: Vec<String>,
    /// Where to build.
    pub chroots: Vec<String>,
    /// Path below the results' address: owner and project, without the build's number.
    pub folder: String,
}

/// The number of a build as text, as the spool names it.
pub fn id_of(build: &Value) -> Option<String> {
    Some(build["id"].as_i64()?.to_string())
}

/// Reads a build, or says which key is not as it must be.
pub fn parse(build: &Value) -> Result<Job, String> {
    let text = |value: &Value, key: &str| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| key.to_owned())
    };
    let number = |value: &Value, key: &str| value.as_i64().ok_or_else(|| key.to_owned());
    let words = |key: &str| {
        let joined = text(&build[key], key)?;
        Ok::<Vec<String>, String>(joined.split(' ').map(str::to_owned).collect())
    };
    words("repos")?;
    for key in ["memory_reqs", "timeout", "user_id"] {
        number(&build[key], key)?;
    }
    let copr = &build["copr"];
    number(&copr["id"], "copr.id")?;
    let project = text(&copr["name"], "copr.name")?;
    let owner = text(&copr["owner"]["name"], "copr.owner.name")?;
    Ok(Job {
        id: number(&build["id"], "id")?,
        pkgs: words("pkgs")?,
        chroots: words("chroots")?,
        folder: format!("{owner}/{project}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_null_text_or_a_missing_key_is_named() {
        let good = json!({"id": 5, "user_id": 1, "pkgs": "http://h/a.src.rpm http://h/b.src.rpm", "chroots": "f-17-i386",
            "repos": "", "memory_reqs": 2048, "timeout": 1800, "copr": {"id": 1, "name": "p", "owner": {"name": "o"}}});
        let job = parse(&good).unwrap();
        assert_eq!((job.id, job.pkgs.len(), &*job.folder), (5, 2, "o/p"));
        for key in ["repos", "pkgs", "chroots", "timeout"] {
            let mut bad = good.clone();
            bad[key] = Value::Null;
            assert_eq!(parse(&bad), Err(key.to_owned()));
        }
        let mut october = good;
        october["copr"] = json!({"id": 1, "name": "p", "owner_id": 1});
        assert_eq!(parse(&october), Err("copr.owner.name".to_owned()));
    }
}
