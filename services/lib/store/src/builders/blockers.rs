//! What keeps an enrolled builder from taking work: a spool disk short of space, images that its engine lacks.

use millrace_domain::BuilderId;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::int4;

/// What keeps a builder from work, as it said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blockers {
    /// Set while its spool's disk is short of space: it takes no work then.
    pub disk: Option<DiskShort>,
    /// References of images that its engine lacks, among those that tasks asked it for.
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
    /// Whether the builder is free to take work.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Records what keeps a builder from work, between two heartbeats; the next one says it again, or something else.
    pub async fn note_blockers(
        &self,
        builder: BuilderId,
        blockers: &Blockers,
    ) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "update builders set disk_free_mib = $2, disk_floor_mib = $3, missing_images = $4 where id = $1",
            )
            .bind(builder.0)
            .bind(blockers.disk.map(|disk| int4(disk.free_mib)))
            .bind(blockers.disk.map(|disk| int4(disk.floor_mib)))
            .bind(&blockers.missing_images)
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }
}
