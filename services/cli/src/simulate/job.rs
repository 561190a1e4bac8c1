//! The fields of a listed build that a poller of 2012 reads. It dies of a key that is missing, and of a null in the
//! place of a text; the simulated one names the key.

use serde_json::Value;

/// The part of a build that its worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Number of the build, in the server's list and in reports.
    pub id: i64,
    /// URLs of source packages.
    pub pkgs: Vec<String>,
    /// Names of the chroots to build in.
    pub chroots: Vec<String>,
    /// Path below the results' address, as `OWNER/PROJECT`; pollers of 2012 do not put the build's number into it.
    pub folder: String,
}

/// The number of a build as text, which is the name of its file in the spool; none where it is not a number.
pub fn id_of(build: &Value) -> Option<String> {
    Some(build["id"].as_i64()?.to_string())
}

/// Reads a build; the error is the name of the key that is missing or of another type.
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
