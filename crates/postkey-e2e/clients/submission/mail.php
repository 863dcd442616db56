<?php
// Hands a message to PHP's mail() as a web form would: recipient, subject, text, further headers. Argument: its file.

[$head, $text] = explode("\n\n", str_replace("\r\n", "\n", file_get_contents($argv[1])), 2);
preg_match('/^Subject: (.*)$/m', $head, $subject);
$headers = ["From" => getenv("SENDER"), "MIME-Version" => "1.0", "Content-Type" => "text/plain; charset=utf-8",
            "Content-Transfer-Encoding" => "8bit"];
if (!mail(getenv("USER_NAME"), $subject[1], $text, $headers)) {
    fwrite(STDERR, "mail() returned false\n");
    exit(1);
}
