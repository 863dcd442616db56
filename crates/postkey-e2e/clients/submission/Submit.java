import java.io.FileInputStream;
import java.io.InputStream;
import java.util.Arrays;
import java.util.Properties;

import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeMessage;

/**
 * Java Mail: all messages over one connection. Arguments: starttls or tls, PLAIN or LOGIN, files. The CA comes as the
 * trust store of the virtual machine, as in an application server.
 */
public class Submit {
    /** Sends the message as it was read: saving would write its own Message-ID. */
    static class AsItIs extends MimeMessage {
        AsItIs(Session session, InputStream bytes) throws Exception {
            super(session, bytes);
        }

        @Override
        public void saveChanges() {}
    }

    public static void main(String[] words) throws Exception {
        boolean implicit = words[0].equals("tls");
        String address = System.getenv(implicit ? "DEMO_SMTPS" : "DEMO_SMTP").replaceFirst("^\\w+://", "");
        String host = address.substring(0, address.lastIndexOf(':'));
        int port = Integer.parseInt(address.substring(address.lastIndexOf(':') + 1));
        String scheme = implicit ? "smtps" : "smtp";
        Properties settings = new Properties();
        String mail = "mail." + scheme + ".";
        settings.put(mail + "auth", "true");
        settings.put(mail + "auth.mechanisms", words[1]);
        settings.put(mail + "from", System.getenv("SENDER"));
        settings.put(mail + "localhost", "localhost");
        settings.put(mail + "ssl.checkserveridentity", "true");
        settings.put(mail + "timeout", "60000");
        settings.put("mail.smtp.starttls.enable", "true");
        settings.put("mail.smtp.starttls.required", "true");
        Session session = Session.getInstance(settings);
        InternetAddress[] recipients = {new InternetAddress(System.getenv("USER_NAME"))};
        try (Transport transport = session.getTransport(scheme)) {
            transport.connect(host, port, System.getenv("DEMO_SUBMITTER"), System.getenv("DEMO_PASSWORD"));
            for (String file : Arrays.copyOfRange(words, 2, words.length)) {
                try (InputStream bytes = new FileInputStream(file)) {
                    transport.sendMessage(new AsItIs(session, bytes), recipients);
                }
            }
        }
    }
}
