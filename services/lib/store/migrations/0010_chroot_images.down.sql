ALTER TABLE attempts DROP COLUMN image_baked_at;
DROP TABLE chroot_images;
ALTER TABLE chroots
    DROP COLUMN base,
    DROP COLUMN refresh_asked_at;
