"""Floor 5: the service that keeps soaks running unattended.

`service` puts it together: one *supervisor* executes a runner process per soak and listens to it,
an HTTP/JSON *API* on a Unix socket takes orders, a *collector* reads figures from the runs' shared
memory for Prometheus, and an *index* finds the runs that there were. The daemon forks nothing,
never loads the compiled core, and holds nothing that is not in the runs' directories, too.
"""
