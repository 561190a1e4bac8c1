//! What builds of a package used before, for suggestions.

use millrace_domain::{AttemptId, EarlierUse, FileName};

use crate::database::Store;
use crate::error::StoreError;

/// As many of the last builds are looked at.
const LAST: i64 = 50;

impl Store {
    /// What 95 in 100 of the last 50 successful builds of a package used at most, in the chroot of this attempt. The
    /// package's name is what stands before version and release in its source's file name.
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
            .bind(LAST)
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
