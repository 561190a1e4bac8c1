//! The room of builders: memory and sandboxes that are left for further tasks. Computed from claims and reservations in
//! the database, not from what builders said some seconds ago.

/// The beginning of a statement about room, a list of CTEs that ends with `room`. The statement goes on with `,` and
/// further CTEs, or with its `select`, `update` or `insert`.
macro_rules! room {
    () => {
        "
        -- live: builders that take work, or would if their disks had space. The view says who is ready.
        with recursive live as (
            select b.id, b.name, b.archs, b.engine_id, b.memory_mib, b.sandboxes, b.disk_floor_mib, b.missing_images
            from ready_builders b
        ),
        -- held: memory and sandboxes that claims take on each builder, by attempts_of_builder.
        held as (
            select a.builder_id, sum(a.memory_mib) as memory_mib, count(*) as sandboxes, min(a.memory_mib) as smallest_mib
            from attempts a where a.state = 'claimed' and a.phase in ('fetching', 'building', 'collecting')
            group by a.builder_id
        ),
        -- kept: reservations that hold, with the engine of their builder and the route of their task, which is looked up
        -- by primary key. There is one reservation per builder at most.
        kept as (
            select k.builder_id, k.task_id, k.memory_mib, l.engine_id, l.name, t.arch, t.memory_class
            from reservations k join live l on l.id = k.builder_id and l.disk_floor_mib is null cross join lateral (
                select t.arch, t.memory_class from tasks t where t.id = k.task_id and t.state in ('waiting', 'queued') limit 1) t
        ),
        -- engine_room: what is left of each engine's memory, reservations taken off. Builders of one engine share it, so
        -- memory that drains for a large task must not go to a neighbour.
        engine_room as (
            select e.id, e.budget_mib, e.budget_mib - coalesce(sum(h.memory_mib), 0)
                - coalesce((select sum(k.memory_mib) from kept k where k.engine_id = e.id), 0) as memory_mib
            from engines e left join builders b on b.engine_id = e.id left join held h on h.builder_id = b.id
            group by e.id
        ),
        -- room: for each live builder whose disk has space what is left of its own offer and of its engine, in MiB, and
        -- of its sandboxes.
        room as (
            select l.id, l.archs, l.engine_id, l.missing_images, least(l.memory_mib, e.budget_mib) as offer_mib,
                l.sandboxes - coalesce(h.sandboxes, 0) as sandboxes, h.smallest_mib,
                l.memory_mib - coalesce(h.memory_mib, 0) as own_mib, e.memory_mib as engine_mib, k.task_id as kept_for
            from live l join engine_room e on e.id = l.engine_id
            left join held h on h.builder_id = l.id left join kept k on k.builder_id = l.id
            where l.disk_floor_mib is null
        )"
    };
}

pub(crate) use room;
