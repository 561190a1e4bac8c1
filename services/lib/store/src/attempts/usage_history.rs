//! Memory and time that earlier builds of a package used, for suggested limits.

use millrace_domain::{AttemptId, EarlierUse, FileName};

use crate::database::Store;
use crate::error::StoreError;

/// Builds that the percentiles are computed from, the last ones.
const RECENT_BUILDS: i64 = 50;

impl Store {
    /// The 95th percentile of peak memory and wall time among the last 50 successful builds of a package in the chroot of
    /// this attempt. The package's name is the part of its source's file name before version and release.
    pub async fn earlier_use(
        &self,
        attempt: AttemptId,
        source: &FileName,
    ) -> Result<EarlierUse, StoreError> {
        self.within(async {
            let (peak, wall): (Option<i64>, Option<f64>) = sqlx::query_as(
                "select percentile_disc(0.95) within group (order by peak),
                    percentile_disc(0.95) within group (order by wall)
                 from (
                    select (p.outcome ->> 'peak_memory_bytes')::bigint as peak,
                        (p.outcome ->> 'wall_seconds')::double precision as wall
                    from attempt_packages p join attempts a on a.id = p.attempt_id join tasks t on t.id = a.task_id
                    where p.outcome ->> 'kind' = 'succeeded'
                        and regexp_replace(p.source, '(-[^-]+-[^-]+)?\\.src\\.rpm$', '')
                            = regexp_replace($2, '(-[^-]+-[^-]+)?\\.src\\.rpm$', '')
                        and t.chroot = (select t.chroot from attempts a join tasks t on t.id = a.task_id where a.id = $1)
                    order by a.ended_at desc nulls last
                    limit $3
                 ) as last",
            )
            .bind(attempt.0)
            .bind(source.as_str())
            .bind(RECENT_BUILDS)
            .fetch_one(&self.pool)
            .await?;
            Ok(EarlierUse {
                peak_memory_bytes: peak.and_then(|peak| peak.try_into().ok()),
                wall_seconds: wall,
            })
        })
        .await
    }
}
