//! The broker as its management API shows it: what was published, and publishing the same again.

use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::Message;
use crate::{http_client, until};

const QUEUE: &str = "recorded";
const EXCHANGES: [&str; 3] = ["millrace.jobs", "millrace.events", "millrace.control"];

/// A queue that gets a copy of every message.
pub struct Tap {
    api: String,
    vhost: String,
}

impl Tap {
    /// Opens one, once a frontend has made the exchanges. `broker` is the test broker's address with an administrator's rights.
    pub async fn open(broker: &SecretString) -> Self {
        let url = Url::parse(broker.expose_secret()).unwrap();
        let tap = Self {
            api: format!("http://127.0.0.1:{}/api", url.port().unwrap() + 1),
            vhost: url.path().trim_start_matches('/').to_owned(),
        };
        tap.call(
            Method::PUT,
            &format!("queues/{}/{QUEUE}", tap.vhost),
            &json!({ "durable": true }),
        )
        .await;
        for exchange in EXCHANGES {
            tap.has("exchanges", exchange).await;
            let path = format!("bindings/{}/e/{exchange}/q/{QUEUE}", tap.vhost);
            tap.call(Method::POST, &path, &json!({ "routing_key": "#" }))
                .await;
        }
        tap
    }

    /// Takes what has been published since.
    pub async fn take(&self) -> Vec<Message> {
        let ask = json!({ "count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto" });
        let got = self
            .call(
                Method::POST,
                &format!("queues/{}/{QUEUE}/get", self.vhost),
                &ask,
            )
            .await;
        got.as_array().unwrap().iter().map(message).collect()
    }

    /// Waits for the next message of an exchange.
    pub async fn next_of(&self, exchange: &str) -> Message {
        until(
            &format!("something is published to {exchange}"),
            async || {
                self.take()
                    .await
                    .into_iter()
                    .find(|message| message.exchange == exchange)
            },
        )
        .await
    }

    /// Publishes a message.
    pub async fn publish(&self, message: &Message) {
        let body = json!({
            "properties": message.properties,
            "routing_key": message.routing_key,
            "payload": message.body.to_string(),
            "payload_encoding": "string",
        });
        let path = format!("exchanges/{}/{}/publish", self.vhost, message.exchange);
        let answer = self.call(Method::POST, &path, &body).await;
        assert_eq!(answer["routed"], true, "no queue takes {message:?}");
    }

    /// Waits until there is a queue.
    pub async fn has_queue(&self, name: &str) {
        self.has("queues", name).await;
    }

    /// Waits until there is something of a kind: `queues`, `exchanges`.
    async fn has(&self, kind: &str, name: &str) {
        let url = format!("{}/{kind}/{}/{name}", self.api, self.vhost);
        until(&format!("{name} is among the {kind}"), async || {
            let request = http_client().get(&url).basic_auth("test", Some("test"));
            request
                .send()
                .await
                .ok()?
                .status()
                .is_success()
                .then_some(())
        })
        .await;
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = http_client().request(method, format!("{}/{path}", self.api));
        let answer = request
            .basic_auth("test", Some("test"))
            .json(body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

fn message(got: &Value) -> Message {
    let text = |name: &str| got[name].as_str().unwrap().to_owned();
    Message {
        exchange: text("exchange"),
        routing_key: text("routing_key"),
        properties: got["properties"].clone(),
        body: serde_json::from_str(&text("payload")).unwrap(),
    }
}
