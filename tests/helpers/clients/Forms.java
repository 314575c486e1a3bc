import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.zip.GZIPOutputStream;

/** Java's HttpClient sends rows of docs/api.md's table of request forms, and prints {row: [status, answer]}. */
class Forms {
    static final String JSON = "application/json";
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static String separator = "{";

    static void send(String name, String type, BodyPublisher body, String... headers) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(System.getenv("ADDRESS")))
                .header("Authorization", "Bearer " + System.getenv("TOKEN"))
                .header("Content-Type", type)
                .POST(body);
        for (int at = 0; at < headers.length; at += 2) request.header(headers[at], headers[at + 1]);
        var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
        System.out.print(separator + "\"" + name + "\": [" + answer.statusCode() + ", " + answer.body() + "]");
        separator = ", ";
    }

    /** Java has no form of its own: this is what Spring's RestTemplate and Apache's client write. */
    static byte[] part(String disposition, String type, byte[] value) throws Exception {
        var out = new ByteArrayOutputStream();
        out.write(("--z\r\nContent-Disposition: form-data; " + disposition + "\r\nContent-Type: " + type
                + "\r\nContent-Length: " + value.length + "\r\n\r\n").getBytes(StandardCharsets.UTF_8));
        out.write(value);
        out.write("\r\n".getBytes());
        return out.toByteArray();
    }

    static BodyPublisher form(byte[]... parts) throws Exception {
        var out = new ByteArrayOutputStream();
        for (byte[] part : parts) out.write(part);
        out.write("--z--\r\n".getBytes());
        return BodyPublishers.ofByteArray(out.toByteArray());
    }

    static byte[] gzip(byte[] body) throws Exception {
        var out = new ByteArrayOutputStream();
        try (var packer = new GZIPOutputStream(out)) {
            packer.write(body);
        }
        return out.toByteArray();
    }

    public static void main(String[] arguments) throws Exception {
        byte[] photo = Files.readAllBytes(Path.of(System.getenv("PHOTO")));
        String multipart = "multipart/form-data; boundary=z";
        byte[] body = ("{\"image_base64\": \"" + Base64.getEncoder().encodeToString(photo) + "\"}").getBytes();
        byte[] mime = Base64.getMimeEncoder().encode(photo);
        String lines = new String(mime).replace("\r\n", "\\r\\n");
        String urlSafe = Base64.getUrlEncoder().encodeToString(photo);
        byte[] meta = "{\"user\": \"\u6559\"}".getBytes(StandardCharsets.UTF_8);
        byte[] file = part("name=\"photo\"; filename=\"a.jpg\"", "image/jpeg", photo);

        send("one photo", JSON, BodyPublishers.ofByteArray(body));
        send("URL-safe base64", JSON, BodyPublishers.ofString("{\"image_base64\": \"" + urlSafe + "\"}"));
        send("base64 with line breaks", JSON, BodyPublishers.ofString("{\"image_base64\": \"" + lines + "\"}"));
        send("a photo", "image/jpeg", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(photo)));
        send("gzip", JSON, BodyPublishers.ofByteArray(gzip(body)), "Content-Encoding", "gzip");
        send("UTF-16", JSON, BodyPublishers.ofString("{\"image_id\": 1}", StandardCharsets.UTF_16));
        send("a file", multipart, form(file));
        send("a file and JSON", multipart, form(part("name=\"meta\"", JSON, meta), file));
        send("two files with one name", multipart, form(file, file));
        send("base64 in a form", multipart, form(part("name=\"image_base64\"", "text/plain;charset=UTF-8", mime)));
        System.out.println("}");
    }
}
