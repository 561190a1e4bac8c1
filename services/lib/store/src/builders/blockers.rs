//! What keeps an enrolled builder from taking work: a full spool disk, images that its engine lacks.

use millrace_domain::BuilderId;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::int4;

/// What keeps a builder from work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blockers {
    /// Its spool's disk is short of space.
    pub disk: Option<DiskShort>,
    /// Images that its engine lacks, as far as orders asked for them.
    pub missing_images: Vec<String>,
}

/// How short of space a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskShort {
    /// Free space, in MiB.
    pub free_mib: u32,
    /// Below this the builder takes no work, in MiB.
    pub floor_mib: u32,
}

impl Blockers {
    /// Whether nothing does.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Notes what keeps a builder from work; its next heartbeat says it again, or something else.
    pub async fn note_blockers(
        &self,
        builder: BuilderId,
        hindered: &Blockers,
    ) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "update builders set disk_free_mib = $2, disk_floor_mib = $3, missing_images = $4 where id = $1",
            )
            .bind(builder.0)
            .bind(hindered.disk.map(|disk| int4(disk.free_mib)))
            .bind(hindered.disk.map(|disk| int4(disk.floor_mib)))
            .bind(&hindered.missing_images)
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }
}
