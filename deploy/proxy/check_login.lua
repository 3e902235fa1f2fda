-- For haproxy.cfg: asks the catalog who sent a request. The variable req.login is the status of its answer.
local asked_with = { "host", "authorization", "cookie", "origin", "sec-fetch-site" }

core.register_action("check_login", { "http-req" }, function(txn, url)
    local headers = txn.http:req_get_headers()
    local sent = { ["x-forwarded-method"] = { txn.f:method() } }
    for _, name in ipairs(asked_with) do
        if headers[name] then
            sent[name] = { headers[name][0] }
        end
    end
    local answer = core.httpclient():get { url = url, headers = sent, timeout = 5000 }
    txn:set_var("req.login", answer and answer.status or 503)
end, 1)
