//! Ships a spooled log to the frontend: every 200 ms what was written since, in pieces of at most 1 MiB, from the size that
//! the frontend last answered. Waits while the frontend does not answer; the log is safe on the disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_chassis::{Backoff, BackoffExt, CancellationToken, crash_point};
use millrace_domain::{AttemptId, Token};
use tokio::sync::watch;

use crate::frontend::call_error::CallError;
use crate::frontend::client::FrontendClient;
use crate::log::INLINE;
use crate::log::spool::LogProgress;
use crate::spool::blocking::on_disk;

/// The largest piece of a log in one request, in bytes.
const PIECE: u64 = 1 << 20;
/// How long output is gathered into one piece.
const GATHER: Duration = Duration::from_millis(200);
/// Refusals of the same piece after which the log is given up.
const MAX_REFUSALS: u32 = 5;

/// What the shipping of one log needs.
#[derive(Clone)]
pub struct Shipment {
    /// The attempt that the log belongs to.
    pub attempt: AttemptId,
    /// The lease that authorises the calls.
    pub lease: Token,
    /// Path of the log in the spool.
    pub path: PathBuf,
    /// The client that the log is sent with.
    pub frontend: FrontendClient,
}

/// Why a log was not shipped to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unshipped {
    /// The frontend has revoked the lease.
    #[error("the lease is gone")]
    LeaseGone,
    /// The builder stops; the log stays in the spool.
    #[error("stopped before the log was shipped")]
    Stopped,
    /// The frontend refused the same piece again and again.
    #[error("{0}")]
    Refused(CallError),
    /// The spooled log cannot be read.
    #[error("cannot read the spooled log: {0}")]
    Spool(#[from] std::io::Error),
}

/// Ships a log to its end; gives the size in bytes that the frontend has. Cancelling `stop` ends it early.
pub async fn ship(
    shipment: Shipment,
    mut written: watch::Receiver<LogProgress>,
    stop: CancellationToken,
) -> Result<u64, Unshipped> {
    let file = Arc::new(File::open(&shipment.path)?);
    let mut sender = Sender {
        shipment,
        offset: 0,
        refusals: 0,
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)),
    };
    // What was written before counts as new.
    written.mark_changed();
    loop {
        if !written.borrow().ended {
            let wait_for_more = stop.run_until_cancelled(wait_for_more(&mut written)).await;
            if wait_for_more != Some(true) {
                return Err(Unshipped::Stopped);
            }
        }
        let now = *written.borrow_and_update();
        while sender.offset < now.size {
            sender.send_next(&file, now.size, &stop).await?;
        }
        if now.ended {
            return Ok(sender.offset);
        }
    }
}

/// Waits for more output, and then for [`GATHER`], so that not every line becomes a request; returns at once when the log
/// ends. False when the log's writer was dropped without an end.
async fn wait_for_more(written: &mut watch::Receiver<LogProgress>) -> bool {
    if written.changed().await.is_err() {
        return false;
    }
    if !written.borrow().ended {
        let ended = written.wait_for(|written| written.ended);
        // Whichever comes first, the caller reads the state.
        let _timed_out = tokio::time::timeout(GATHER, ended).await.is_err();
    }
    true
}

/// Sends the pieces of one log in order.
struct Sender {
    shipment: Shipment,
    offset: u64,
    refusals: u32,
    backoff: Backoff,
}

impl Sender {
    /// Sends the next piece, or pauses when it could not be sent.
    async fn send_next(
        &mut self,
        file: &Arc<File>,
        size: u64,
        stop: &CancellationToken,
    ) -> Result<(), Unshipped> {
        let piece = read_piece(file, self.offset, size).await?;
        let Shipment {
            attempt,
            lease,
            frontend,
            ..
        } = &self.shipment;
        let sent = stop
            .run_until_cancelled(frontend.send_log(*attempt, lease, self.offset, piece))
            .await
            .ok_or(Unshipped::Stopped)?;
        match sent {
            Ok(accepted) => {
                crash_point("log.shipped");
                // An answer with the same size counts as a refusal, or this would never end.
                self.refusals = if accepted.size == self.offset {
                    self.refusals + 1
                } else {
                    0
                };
                self.offset = accepted.size;
                if self.refusals <= MAX_REFUSALS {
                    self.backoff.reset();
                    return Ok(());
                }
                return Err(Unshipped::Refused(CallError::Away(
                    "the frontend appends nothing more to the log".to_owned(),
                )));
            }
            Err(CallError::LeaseGone) => return Err(Unshipped::LeaseGone),
            Err(CallError::Away(reason) | CallError::StoreFull(reason)) => {
                tracing::debug!("the frontend does not answer, the log waits: {reason}");
            }
            Err(error @ (CallError::Refused { .. } | CallError::Local(_))) => {
                self.refusals += 1;
                if self.refusals > MAX_REFUSALS {
                    return Err(Unshipped::Refused(error));
                }
            }
        }
        if self.backoff.pause(stop).await {
            Ok(())
        } else {
            Err(Unshipped::Stopped)
        }
    }
}

async fn read_piece(file: &Arc<File>, offset: u64, size: u64) -> std::io::Result<Bytes> {
    let length = usize::try_from((size - offset).min(PIECE)).map_err(std::io::Error::other)?;
    let file = Arc::clone(file);
    let read = move || {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, offset)?;
        Ok(Bytes::from(piece))
    };
    if length <= INLINE {
        read()
    } else {
        on_disk(read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::fake::FakeFrontend;
    use crate::log::spool::SpooledLog;
    use millrace_chassis::Shutdown;

    struct Shipping {
        fake: FakeFrontend,
        log: SpooledLog,
        shipment: Shipment,
        _folder: tempfile::TempDir,
    }

    async fn shipping() -> Shipping {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let fake = FakeFrontend::start().await;
        let (session, frontend) = fake.client();
        session.enrol(&Shutdown::manual()).await.unwrap();
        Shipping {
            fake,
            log: SpooledLog::open(&path).unwrap(),
            shipment: Shipment {
                attempt: AttemptId::generate(),
                lease: Token::new("lease"),
                path,
                frontend,
            },
            _folder: folder,
        }
    }

    #[tokio::test]
    async fn a_log_arrives_whole_in_bounded_pieces() {
        let mut s = shipping().await;
        let progress = s.log.progress();
        let task = tokio::spawn(ship(s.shipment, progress, CancellationToken::new()));
        let bytes: Vec<u8> = (0..2_800_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        s.log.append(&bytes).await.unwrap();
        s.log.append_line("end").await.unwrap();
        let size = s.log.end().await.unwrap();
        assert_eq!(task.await.unwrap().unwrap(), size);
        let state = s.fake.state();
        assert_eq!(state.log.len() as u64, size);
        assert!(state.log.starts_with(&bytes) && state.log.ends_with(b"millrace: end\n"));
        assert!(state.pieces.iter().all(|piece| *piece as u64 <= PIECE));
    }

    #[tokio::test]
    async fn output_is_shipped_while_more_may_come() {
        let mut s = shipping().await;
        let progress = s.log.progress();
        let stop = CancellationToken::new();
        let task = tokio::spawn(ship(s.shipment.clone(), progress, stop.clone()));
        s.log.append_line("first").await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while s.fake.state().log.is_empty() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "nothing was shipped"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        assert!(matches!(task.await.unwrap(), Err(Unshipped::Stopped)));
    }

    #[tokio::test]
    async fn a_restarted_builder_goes_on_where_the_frontend_stands() {
        let mut s = shipping().await;
        s.log.append(b"already there, and the rest").await.unwrap();
        s.fake.state().log = b"already there".to_vec();
        let progress = s.log.progress();
        s.log.end().await.unwrap();
        let size = ship(s.shipment, progress, CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(size, 27);
        let state = s.fake.state();
        assert_eq!(state.log, b"already there, and the rest");
        assert_eq!(state.pieces, [14], "only the rest was taken");
    }

    #[tokio::test]
    async fn an_outage_is_waited_for() {
        let mut s = shipping().await;
        s.log.append(b"patience").await.unwrap();
        s.fake.state().away_for = 2;
        let progress = s.log.progress();
        s.log.end().await.unwrap();
        let size = ship(s.shipment, progress, CancellationToken::new())
            .await
            .unwrap();
        assert_eq!((size, s.fake.state().log.as_slice()), (8, &b"patience"[..]));
    }

    #[tokio::test]
    async fn a_lost_lease_and_a_lost_writer_end_it() {
        let mut s = shipping().await;
        s.log.append(b"x").await.unwrap();
        s.fake.state().revoked = true;
        let shipped = ship(
            s.shipment.clone(),
            s.log.progress(),
            CancellationToken::new(),
        )
        .await;
        assert!(matches!(shipped, Err(Unshipped::LeaseGone)));
        s.fake.state().revoked = false;
        let progress = s.log.progress();
        drop(s.log);
        let shipped = ship(s.shipment, progress, CancellationToken::new()).await;
        assert!(matches!(shipped, Err(Unshipped::Stopped)));
    }
}
