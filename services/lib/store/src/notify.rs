//! LISTEN/NOTIFY: one frontend tells the others that there is work. Notifications are lost while the connection is down, so
//! every listener also polls the tables; a lost notification costs time, never work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millrace_domain::Backoff;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep_until};

/// The channel on which stores notify each other; the payload is the sender's id.
pub(crate) const CHANNEL: &str = "millrace_wake";

/// A connection that lived this long was a good one: the backoff begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// A stream of notifications from other stores.
pub struct Notifications {
    options: PgConnectOptions,
    /// Id of the listening store, whose own notifications are ignored: it knows of its own commits.
    own: Arc<str>,
    listener: Option<PgListener>,
    /// When the listener was connected.
    since: Instant,
    backoff: Backoff,
    /// No connection is tried before; kept here, because whoever waits may stop waiting at any time.
    not_before: Instant,
}

/// Leaves the options out, which hold a password.
impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications")
            .field("listening", &self.listener.is_some())
            .finish_non_exhaustive()
    }
}

impl Notifications {
    pub(crate) fn new(options: PgConnectOptions, own: Arc<str>) -> Self {
        Self {
            options,
            own,
            listener: None,
            since: Instant::now(),
            backoff: Backoff::for_reconnecting(),
            not_before: Instant::now(),
        }
    }

    /// Returns when there may be work: on a notification of another store, and after each gap in which one may have
    /// been missed. Several notifications at once are one hint. May be dropped at any time.
    pub async fn next(&mut self) {
        loop {
            if let Some(listener) = &mut self.listener {
                match listener.try_recv().await {
                    Ok(Some(first)) => {
                        let mut is_news = first.payload() != &*self.own;
                        while let Some(next) = listener.next_buffered() {
                            is_news |= next.payload() != &*self.own;
                        }
                        if is_news {
                            return;
                        }
                        continue;
                    }
                    Ok(None) => tracing::debug!("the listening connection was lost"),
                    Err(error) => tracing::debug!(%error, "listening failed"),
                }
                self.listener = None;
                if self.since.elapsed() >= GOOD_LIFE {
                    self.backoff.reset();
                }
                self.keep_distance();
            }
            sleep_until(self.not_before).await;
            match self.connect().await {
                Ok(listener) => {
                    self.listener = Some(listener);
                    self.since = Instant::now();
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "listening is not possible yet");
                    self.keep_distance();
                }
            }
        }
    }

    /// Puts the next try off, by a longer delay after each failure.
    fn keep_distance(&mut self) {
        self.not_before = Instant::now() + self.backoff.delay(rand::random());
    }

    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}
