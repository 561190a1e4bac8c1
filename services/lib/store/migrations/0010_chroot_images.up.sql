-- A chroot is data: what its image is baked from (null: the image is made elsewhere), and when a fresh one was last
-- asked for.
ALTER TABLE chroots
    ADD COLUMN base             text,
    ADD COLUMN refresh_asked_at timestamptz;

-- What each builder says of the images on its engine, in the builder's own time.
CREATE TABLE chroot_images (
    builder_id  uuid NOT NULL REFERENCES builders (id) ON DELETE CASCADE,
    chroot      text NOT NULL REFERENCES chroots (name),
    state       text NOT NULL CHECK (state IN ('ready', 'missing', 'baking', 'failed')),
    digest      text,
    baked_at    timestamptz,
    -- Since when it is being baked, or when that failed.
    since       timestamptz,
    error       text,
    next_try_at timestamptz,
    PRIMARY KEY (builder_id, chroot)
);

CREATE INDEX chroot_images_of_chroot ON chroot_images (chroot);

-- The age of the image that an attempt was built in.
ALTER TABLE attempts ADD COLUMN image_baked_at timestamptz;
