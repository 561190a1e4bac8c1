//! The contract with pollers of 2012: lists, claims, reports and administration.

mod execute;
mod list;
mod operate;
mod reports;
mod seeds;
mod slow_clients;

use millrace_chassis::Method;
use serde_json::{Value, json};

use crate::support::{Frontend, Reply, send};

/// A poller that the frontend knows.
pub struct Poller {
    /// Path of its own address on the frontend.
    pub path: String,
    /// Password for its reports.
    pub secret: String,
}

impl Poller {
    /// Adds a poller with these further fields.
    pub async fn add(frontend: &Frontend, name: &str, mode: &str, rules: Value) -> Self {
        let mut body = json!({"name": name, "mode": mode});
        for (key, value) in rules.as_object().unwrap() {
            body[key] = value.clone();
        }
        let reply = frontend.post("/api/v1/pollers", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        Self::of(&reply.json())
    }

    /// Reads address and password from the answer that shows them.
    pub fn of(access: &Value) -> Self {
        let url = access["url"].as_str().unwrap();
        let path = url.strip_prefix("http://public.example:8080").unwrap();
        Self {
            path: path.to_owned(),
            secret: access["secret"].as_str().unwrap().to_owned(),
        }
    }

    pub async fn fetch(&self, frontend: &Frontend) -> Reply {
        frontend
            .get(&format!("{}/waiting_builds/", self.path))
            .await
    }

    /// Fetches its list and returns the numbers of the builds.
    pub async fn listed(&self, frontend: &Frontend) -> Vec<i64> {
        ids(&self.fetch(frontend).await.json())
    }

    pub async fn report(&self, frontend: &Frontend, builds: Value) -> Reply {
        let body = json!({ "builds": builds });
        let path = format!("{}/update_builds/", self.path);
        update(
            frontend,
            Method::POST,
            &path,
            &self.secret,
            body.to_string(),
        )
        .await
    }
}

/// Numbers of the builds in a list.
pub fn ids(list: &Value) -> Vec<i64> {
    let builds = list["builds"].as_array().unwrap();
    builds.iter().map(|b| b["id"].as_i64().unwrap()).collect()
}

/// Sends a report as pollers do, with the password and any user name.
pub async fn update(
    frontend: &Frontend,
    method: Method,
    path: &str,
    secret: &str,
    body: String,
) -> Reply {
    let request = frontend.request(method, path, "");
    let request = request.basic_auth("user", Some(secret));
    send(
        request
            .header("content-type", "application/json")
            .body(body),
    )
    .await
}

/// State of a build, as the API shows it.
pub async fn state_of(frontend: &Frontend, build: i64) -> String {
    let shown = frontend
        .get(&format!("/api/v1/builds/{build}"))
        .await
        .json();
    shown["state"].as_str().unwrap().to_owned()
}
