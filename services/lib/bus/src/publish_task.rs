//! The one owner of the publishing channel: takes the waiting messages, publishes them as one window, awaits all
//! confirms.
//!
//! One window at a time, because lapin hands a returned message to whichever confirm happens to be resolved next
//! when the broker acknowledges several at once. Within a window the returned message's id identifies it;
//! between windows nothing is open, so nothing can be mistaken.
//!
//! A channel with an open confirm is never dropped: closing it can cross the broker's own close and end the whole
//! connection. After a missed deadline it is left to a task that waits for the rest.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::PublishError;
use crate::fault::{Fault, within};
use crate::link::{Link, LinkState};
use crate::topology::Address;

/// Messages in flight before the next ones wait for their confirms.
const MAX_WINDOW: usize = 1000;
/// How long late confirms are waited for before the connection is replaced.
const DRAIN: Duration = Duration::from_secs(30);
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// A message ready to be published: its strings fit into AMQP's 255 bytes.
pub(crate) struct Prepared {
    pub(crate) address: Address,
    pub(crate) message_id: String,
    pub(crate) headers: FieldTable,
    pub(crate) body: Vec<u8>,
}

/// Messages to publish with confirms, and where their results go.
pub(crate) struct Request {
    pub(crate) messages: Vec<Prepared>,
    pub(crate) reply: oneshot::Sender<Vec<Result<(), PublishError>>>,
}

/// A call of a [`crate::Publisher`], for the task.
pub(crate) enum Command {
    Publish(Request),
    Hint(Prepared),
}

/// A sent message of a window, by its position; resolves to the broker's answer.
type PendingConfirm = BoxFuture<'static, (usize, lapin::Result<Confirmation>)>;
type Results = Vec<Result<(), PublishError>>;

struct Open {
    generation: u64,
    channel: Arc<Channel>,
}

/// The task behind [`crate::Publisher`].
pub(crate) struct PublishTask {
    link: Link,
    declaring: Link,
    inbox: mpsc::Receiver<Command>,
    confirming: Option<Open>,
    hinting: Option<Open>,
}

impl PublishTask {
    pub(crate) fn new(link: Link, declaring: Link, inbox: mpsc::Receiver<Command>) -> Self {
        Self {
            link,
            declaring,
            inbox,
            confirming: None,
            hinting: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.link.stopped().clone();
        loop {
            let command = tokio::select! {
                () = stop.cancelled() => break,
                command = self.inbox.recv() => command,
            };
            match command {
                Some(Command::Hint(hint)) => self.send_hint(hint).await,
                Some(Command::Publish(request)) => self.serve(request).await,
                None => break,
            }
        }
        self.refuse_waiting().await;
    }

    /// Publishes this request together with those that wait behind it.
    async fn serve(&mut self, first: Request) {
        let mut sizes = vec![(first.messages.len(), first.reply)];
        let mut window = first.messages;
        let mut hints = Vec::new();
        while window.len() < MAX_WINDOW {
            match self.inbox.try_recv() {
                Ok(Command::Publish(request)) => {
                    sizes.push((request.messages.len(), request.reply));
                    window.extend(request.messages);
                }
                Ok(Command::Hint(hint)) => hints.push(hint),
                Err(_) => break,
            }
        }
        let mut results = self.publish(window).await;
        for (size, reply) in sizes {
            let rest = results.split_off(size.min(results.len()));
            // The publisher's future may have been dropped.
            let _ = reply.send(std::mem::replace(&mut results, rest));
        }
        for hint in hints {
            self.send_hint(hint).await;
        }
    }

    async fn publish(&mut self, window: Vec<Prepared>) -> Results {
        let count = window.len();
        match self.link.now() {
            LinkState::Up => {}
            LinkState::Down { reason, .. } => {
                return vec![Err(PublishError::Disconnected(reason)); count];
            }
            LinkState::Blocked { reason, .. } => {
                return vec![Err(PublishError::Blocked(reason)); count];
            }
        }
        match self.confirming_channel().await {
            Ok((generation, channel)) => self.publish_window(window, generation, channel).await,
            Err(fault) => {
                let reason: Arc<str> = fault.to_string().into();
                vec![Err(PublishError::Disconnected(reason)); count]
            }
        }
    }

    /// Sends a whole window, then collects confirms until the deadline.
    async fn publish_window(
        &mut self,
        window: Vec<Prepared>,
        generation: u64,
        channel: Arc<Channel>,
    ) -> Results {
        let confirm_within = self.link.config().confirm_deadline;
        let deadline = Instant::now() + confirm_within;
        let mut results = WindowResults::new(&window, confirm_within);
        let mut pending: FuturesUnordered<PendingConfirm> = window
            .into_iter()
            .enumerate()
            .map(|(position, message)| send(channel.clone(), position, message))
            .collect();
        loop {
            match timeout_at(deadline, pending.next()).await {
                Ok(Some((position, answer))) => results.confirmed(position, answer),
                Ok(None) => break,
                Err(_) => {
                    self.confirming = None;
                    tracing::warn!(
                        missing = pending.len(),
                        "the broker did not confirm in time; taking a new channel"
                    );
                    tokio::spawn(drain(self.link.clone(), generation, channel, pending));
                    break;
                }
            }
        }
        if results.is_topology_missing {
            self.ask_for_declaration();
        }
        results.finish()
    }

    /// Has the topology declared again, as a queue or exchange is missing. The sender publishes the message again.
    fn ask_for_declaration(&self) {
        let declaring = self.declaring.clone();
        tokio::spawn(async move {
            if let Err(fault) = declaring.redeclare().await {
                tracing::warn!(%fault, "a queue or exchange is missing and could not be declared");
            }
        });
    }

    async fn confirming_channel(&mut self) -> Result<(u64, Arc<Channel>), Fault> {
        if let Some(open) = usable(&self.link, self.confirming.as_ref()) {
            return Ok(open);
        }
        self.confirming = None;
        let (session, channel) = self.link.open_channel().await?;
        let call = channel.confirm_select(ConfirmSelectOptions::default());
        within(self.link.config().rpc_deadline, "confirm.select", call).await?;
        let channel = Arc::new(channel);
        self.confirming = Some(Open {
            generation: session.generation,
            channel: channel.clone(),
        });
        Ok((session.generation, channel))
    }

    async fn send_hint(&mut self, hint: Prepared) {
        if let Err(fault) = self.try_hint(hint).await {
            tracing::debug!(%fault, "a hint was dropped");
        }
    }

    async fn try_hint(&mut self, hint: Prepared) -> Result<(), Fault> {
        if !self.link.now().is_up() {
            return Err(Fault::Gone(self.link.reason().to_string()));
        }
        let channel = if let Some((_, channel)) = usable(&self.link, self.hinting.as_ref()) {
            channel
        } else {
            let (session, channel) = self.link.open_channel().await?;
            let channel = Arc::new(channel);
            self.hinting = Some(Open {
                generation: session.generation,
                channel: channel.clone(),
            });
            channel
        };
        let (exchange, key, body, properties) = hint.into_parts(TRANSIENT);
        let options = BasicPublishOptions::default();
        let call = channel.basic_publish(exchange, key, options, &body, properties);
        within(self.link.config().confirm_deadline, "basic.publish", call).await?;
        Ok(())
    }

    async fn refuse_waiting(&mut self) {
        self.inbox.close();
        while let Some(command) = self.inbox.recv().await {
            if let Command::Publish(request) = command {
                let _ = request
                    .reply
                    .send(vec![Err(PublishError::Closed); request.messages.len()]);
            }
        }
    }
}

impl Prepared {
    fn into_parts(self, delivery_mode: u8) -> (ShortString, ShortString, Vec<u8>, BasicProperties) {
        let properties = BasicProperties::default()
            .with_delivery_mode(delivery_mode)
            .with_content_type("application/json".into())
            .with_message_id(self.message_id.into())
            .with_headers(self.headers);
        (
            self.address.exchange.into(),
            self.address.key.into(),
            self.body,
            properties,
        )
    }
}

/// The channel, if it is of the present connection and still open.
fn usable(link: &Link, open: Option<&Open>) -> Option<(u64, Arc<Channel>)> {
    let open = open?;
    let present = link.session()?.generation;
    (open.generation == present && open.channel.status().connected())
        .then(|| (present, open.channel.clone()))
}

fn send(channel: Arc<Channel>, position: usize, message: Prepared) -> PendingConfirm {
    Box::pin(async move {
        let (exchange, key, body, properties) = message.into_parts(PERSISTENT);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = channel
            .basic_publish(exchange, key, options, &body, properties)
            .await;
        let answer = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        (position, answer)
    })
}

/// Holds a channel open until its confirms came. If they never come, the connection is replaced.
async fn drain(
    link: Link,
    generation: u64,
    channel: Arc<Channel>,
    mut pending: FuturesUnordered<PendingConfirm>,
) {
    let mut renewed = false;
    loop {
        match timeout(DRAIN, pending.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            // Under an alarm the broker does not read; it answers when the alarm ends.
            Err(_) if matches!(link.now(), LinkState::Blocked { .. }) => {}
            Err(_) if renewed || !channel.status().connected() => break,
            Err(_) => {
                link.renew(generation);
                renewed = true;
            }
        }
    }
    drop(channel);
}

/// The results of a window, one per message: a missed deadline until its confirm comes.
struct WindowResults {
    addresses: Vec<(String, Address)>,
    results: Results,
    returned: HashSet<String>,
    is_topology_missing: bool,
}

impl WindowResults {
    fn new(window: &[Prepared], confirm_within: Duration) -> Self {
        Self {
            addresses: window
                .iter()
                .map(|m| (m.message_id.clone(), m.address.clone()))
                .collect(),
            results: vec![Err(PublishError::Deadline(confirm_within)); window.len()],
            returned: HashSet::new(),
            is_topology_missing: false,
        }
    }

    fn confirmed(&mut self, position: usize, answer: lapin::Result<Confirmation>) {
        self.results[position] = match answer {
            Ok(confirmation) => {
                let nacked = confirmation.is_nack();
                if let Some(message) = confirmation.take_message() {
                    let id = message.delivery.properties.message_id();
                    self.returned
                        .extend(id.as_ref().map(|id| id.as_str().to_owned()));
                    self.is_topology_missing = true;
                }
                if nacked {
                    Err(PublishError::Nacked)
                } else {
                    Ok(())
                }
            }
            Err(error) => {
                let fault = Fault::from(error);
                self.is_topology_missing |= matches!(fault, Fault::Missing(_));
                Err(PublishError::Lost(fault.to_string().into()))
            }
        };
    }

    /// The results in the order of the window. An acknowledged message that was returned first was not stored.
    fn finish(mut self) -> Results {
        for ((id, address), result) in self.addresses.into_iter().zip(&mut self.results) {
            if result.is_ok() && self.returned.contains(&id) {
                *result = Err(PublishError::Returned {
                    exchange: address.exchange,
                    key: address.key,
                });
            }
        }
        self.results
    }
}
