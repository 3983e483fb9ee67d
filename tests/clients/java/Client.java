import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * Java's own HttpClient: a tunnel for https:, absolute form for http:. Errands come in on stdin, one a line, and each is
 * answered by a line of JSON. See ../README.md for both.
 */
public class Client {
    static final String APP = System.getenv("APP");
    static final String API_TOKEN = System.getenv("API_TOKEN");
    static final String BOUNDARY = "a-boundary-of-kintone-egress-tests";

    /** An answer of 400 and above. */
    static class Refused extends IOException {
        final int status;
        final Optional<String> retryAfter;

        Refused(HttpResponse<byte[]> answer) {
            // The body is null where a tunnel's proxy answered 407.
            super(answer + (answer.body() == null ? "" : " " + new String(answer.body(), StandardCharsets.UTF_8)));
            status = answer.statusCode();
            retryAfter = answer.headers().firstValue("retry-after");
        }
    }

    final HttpClient client;
    final String base;
    final String login;

    Client(String mode, URI proxy, String base) {
        String[] login = proxy.getRawUserInfo().split(":", 2);
        String user = URLDecoder.decode(login[0].replace("+", "%2B"), StandardCharsets.UTF_8);
        String password = URLDecoder.decode(login[1].replace("+", "%2B"), StandardCharsets.UTF_8);
        this.base = base;
        this.login = "Basic " + Base64.getEncoder().encodeToString((user + ":" + password).getBytes(StandardCharsets.UTF_8));
        client = HttpClient.newBuilder()
            .version(mode.equals("inspect-h1") ? HttpClient.Version.HTTP_1_1 : HttpClient.Version.HTTP_2)
            .proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
            .connectTimeout(Duration.ofSeconds(60))
            .build();
    }

    HttpResponse<byte[]> call(String method, String path, String type, byte[] body) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + "/k/v1/" + path))
            .header("X-Cybozu-API-Token", API_TOKEN)
            // At once: an Authenticator would be asked only after a 407. With a tunnel it goes into the CONNECT alone, and only
            // with -Djdk.http.auth.tunneling.disabledSchemes= : by default Java sends no Basic there.
            .header("Proxy-Authorization", login)
            .timeout(Duration.ofSeconds(60))
            .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body));
        if (type != null) {
            request.header("Content-Type", type);
        }
        HttpResponse<byte[]> answer = client.send(request.build(), BodyHandlers.ofByteArray());
        if (answer.statusCode() >= 400) {
            throw new Refused(answer);
        }
        return answer;
    }

    HttpResponse<byte[]> records() throws Exception {
        String query = URLEncoder.encode("order by $id asc", StandardCharsets.UTF_8);
        return call("GET", "records.json?app=" + APP + "&query=" + query, null, null);
    }

    /** Adds a record with a file, gives the file as it comes back. */
    byte[] work(String title, Path file) throws Exception {
        ByteArrayOutputStream form = new ByteArrayOutputStream();
        form.writeBytes(("--" + BOUNDARY + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n").getBytes());
        form.writeBytes(Files.readAllBytes(file));
        form.writeBytes(("\r\n--" + BOUNDARY + "--\r\n").getBytes());
        String type = "multipart/form-data; boundary=" + BOUNDARY;
        String key = text(call("POST", "file.json", type, form.toByteArray()), "\"fileKey\":\"([^\"]+)\"");
        String record = "{\"app\":" + APP + ",\"record\":{\"title\":{\"value\":" + quoted(title)
            + "},\"tel\":{\"value\":\"03-0000-1111\"},\"num\":{\"value\":\"42\"},\"files\":{\"value\":[{\"fileKey\":\"" + key + "\"}]}}}";
        byte[] body = record.getBytes(StandardCharsets.UTF_8);
        String id = text(call("POST", "record.json", "application/json", body), "\"id\":\"(\\d+)\"");
        HttpResponse<byte[]> shown = call("GET", "record.json?app=" + APP + "&id=" + id, null, null);
        String download = text(shown, "\"fileKey\":\"([^\"]+)\"");
        return call("GET", "file.json?fileKey=" + download, null, null).body();
    }

    static String text(HttpResponse<byte[]> answer, String pattern) {
        var found = Pattern.compile(pattern).matcher(new String(answer.body(), StandardCharsets.UTF_8));
        if (!found.find()) {
            throw new IllegalStateException("no " + pattern);
        }
        return found.group(1);
    }

    static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return quoted.append('"').toString();
    }

    static String run(String mode, String[] errand) {
        try {
            Client client = new Client(mode, URI.create(errand[1]), errand[2]);
            String file = "";
            if (errand[0].equals("work")) {
                byte[] content = client.work(errand[3], Path.of(errand[4]));
                byte[] hash = MessageDigest.getInstance("SHA-256").digest(content);
                file = ",\"file_sha256\":\"" + HexFormat.of().formatHex(hash) + "\"";
            }
            HttpResponse<byte[]> answer = client.records();
            String version = answer.version() == HttpClient.Version.HTTP_2 ? "HTTP/2" : "HTTP/1.1";
            String body = new String(answer.body(), StandardCharsets.UTF_8);
            return "{\"ok\":true,\"version\":\"" + version + "\",\"answer\":" + body + file + "}";
        } catch (Refused refused) {
            String retry = refused.retryAfter.map(Client::quoted).orElse("null");
            String said = quoted(refused.toString());
            return "{\"ok\":false,\"said\":" + said + ",\"status\":" + refused.status + ",\"retry_after\":" + retry + "}";
        } catch (Exception error) {
            return "{\"ok\":false,\"said\":" + quoted(error.toString()) + "}";
        }
    }

    public static void main(String[] arguments) throws IOException {
        BufferedReader errands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new java.io.PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = errands.readLine(); line != null; line = errands.readLine()) {
            out.println(run(arguments[0], line.split("\t")));
        }
    }
}
