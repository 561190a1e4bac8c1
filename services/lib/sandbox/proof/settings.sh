# Settings of mock for a chroot that is baked and thrown away, read after the chroot's own configuration, in bake and builds
# alike. Builders and deploy/bin/bake-chroots run it in a container of the base before mock. SUDO_UID is mock's user.
home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
if [ -n "$home" ]; then
    mkdir -p "$home/.config" && cat >>"$home/.config/mock.cfg" <<'END'
import re
# A mirror's hiccup is no failure.
config_opts['package_manager_max_attempts'] = 3
config_opts['package_manager_attempt_delay'] = 3
# It would look up the container's own name at each start. rpm has to have a name, or it looks one up itself.
config_opts['use_container_host_hostname'] = False
if '%_buildhost' not in config_opts['macros']:
    config_opts['macros']['%_buildhost'] = 'millrace'
# The package manager's own words are what a failure is told by.
config_opts['print_main_output'] = True
# The packages are in the chroot; nobody reads the files again.
for name in ('dnf.conf', 'yum.conf'):
    if name in config_opts:
        config_opts[name] = re.sub(r'(?m)^keepcache\s*=.*$', 'keepcache=0', config_opts[name])
END
fi
