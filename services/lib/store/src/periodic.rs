//! Periodic jobs that must run once per interval in the whole installation, whatever the number of frontends.

use crate::database::Store;
use crate::error::StoreError;
use crate::row::int4;

impl Store {
    /// Claims the next run of the periodic job `name`. True for exactly one caller in each `every_seconds`: the guarded
    /// update of the job's row in table `turns` decides, by the database's clock.
    pub async fn claim_periodic_run(
        &self,
        name: &str,
        every_seconds: u32,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let taken = sqlx::query(
                "update turns set begun_at = now()
                 where name = $1 and begun_at < now() - $2 * interval '1 second'",
            )
            .bind(name)
            .bind(int4(every_seconds))
            .execute(&self.pool)
            .await?;
            Ok(taken.rows_affected() == 1)
        })
        .await
    }
}
