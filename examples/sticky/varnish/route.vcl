# The route in a cookie of its own: --affinity cookie, the default.
#
# varnishd -a 127.0.0.1:8080 -f route.vcl, before three nodes that were started with
#   reference --node n1 --listen 127.0.0.1:8081 --store "sticky:?backup=..."   (n2: 8082, n3: 8083)

vcl 4.1;

import cookie;
import directors;
import std;

probe is_alive { .url = "/healthz"; .interval = 1s; .timeout = 1s; .window = 2; .threshold = 1; .initial = 1; }
# While a node drains, /readyz says 404.
probe takes_clients { .url = "/readyz"; .interval = 1s; .timeout = 1s; .window = 2; .threshold = 1; .initial = 1; }

# A node is two backends: its clients stay while it drains, and new ones go elsewhere.
backend n1 { .host = "127.0.0.1"; .port = "8081"; .connect_timeout = 1s; .probe = is_alive; }
backend n2 { .host = "127.0.0.1"; .port = "8082"; .connect_timeout = 1s; .probe = is_alive; }
backend n3 { .host = "127.0.0.1"; .port = "8083"; .connect_timeout = 1s; .probe = is_alive; }
backend new1 { .host = "127.0.0.1"; .port = "8081"; .connect_timeout = 1s; .probe = takes_clients; }
backend new2 { .host = "127.0.0.1"; .port = "8082"; .connect_timeout = 1s; .probe = takes_clients; }
backend new3 { .host = "127.0.0.1"; .port = "8083"; .connect_timeout = 1s; .probe = takes_clients; }

sub vcl_init {
    new any = directors.round_robin();
    any.add_backend(new1);
    any.add_backend(new2);
    any.add_backend(new3);
}

sub vcl_recv {
    cookie.parse(req.http.Cookie);
    set req.http.Route = cookie.get("__Host-id-route");
    set req.backend_hint = any.backend();
    # The first label decides, so it comes last. Where its node is down, the second one does, if there is one.
    if (req.http.Route ~ "^[^.]+\.n1(\.|$)" && std.healthy(n1)) { set req.backend_hint = n1; }
    if (req.http.Route ~ "^[^.]+\.n2(\.|$)" && std.healthy(n2)) { set req.backend_hint = n2; }
    if (req.http.Route ~ "^[^.]+\.n3(\.|$)" && std.healthy(n3)) { set req.backend_hint = n3; }
    if (req.http.Route ~ "^n1(\.|$)" && std.healthy(n1)) { set req.backend_hint = n1; }
    if (req.http.Route ~ "^n2(\.|$)" && std.healthy(n2)) { set req.backend_hint = n2; }
    if (req.http.Route ~ "^n3(\.|$)" && std.healthy(n3)) { set req.backend_hint = n3; }
    unset req.http.Route;
    # Varnish goes on as usual: it never caches an answer to a request with a cookie, or one that sets a cookie.
}

sub vcl_backend_error {
    # The node ended, and its probe did not notice yet. Varnish does not say whether a request was sent, so
    # only one that changes nothing is sent again.
    if ((bereq.method == "GET" || bereq.method == "HEAD") && bereq.retries < 3) {
        set bereq.backend = any.backend();
        return (retry);
    }
}
