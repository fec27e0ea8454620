defmodule Image.ZeroShot.CLI.Demo.Connection do
  @moduledoc false

  # One connection: a request, the checks that it is ours, and an answer.

  require Logger

  alias Image.ZeroShot.CLI.Demo.{Budget, Request}
  alias Image.ZeroShot.CLI.JSON

  @typedoc """
  Finds what answers a method and a path, with the most bytes that its body may have, or the methods that the path
  has.
  """
  @type routes ::
          (method :: String.t(), path :: String.t() ->
             {:ok, max_body :: non_neg_integer(), (Request.t() -> answer())}
             | {:methods, [String.t()]}
             | :not_found)

  @type answer ::
          {status :: pos_integer(), type :: String.t(), headers :: [{String.t(), String.t()}],
           body :: iodata()}

  @reasons %{
    200 => "OK",
    400 => "Bad Request",
    403 => "Forbidden",
    404 => "Not Found",
    405 => "Method Not Allowed",
    408 => "Request Timeout",
    411 => "Length Required",
    413 => "Content Too Large",
    417 => "Expectation Failed",
    421 => "Misdirected Request",
    422 => "Unprocessable Content",
    431 => "Request Header Fields Too Large",
    500 => "Internal Server Error",
    503 => "Service Unavailable",
    505 => "HTTP Version Not Supported"
  }

  # Nothing from elsewhere, and nowhere else: no script or style in the page, no frame around it.
  @policy "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " <>
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  @headers [
    {"Content-Security-Policy", @policy},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Permissions-Policy", "camera=(self), microphone=(), geolocation=()"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Connection", "close"}
  ]

  # What an unread body may go on for once it is refused: closing at once would take the answer away.
  @linger_ms 2_000
  @linger_bytes 100_000_000

  @spec serve(:inet.socket(), map()) :: :ok
  def serve(socket, context) do
    case Request.head(socket, context.limits) do
      {:ok, request} -> socket |> answer(request, context) |> finish(socket, request.method)
      other -> finish(other, socket, "GET")
    end
  end

  @doc """
  Answers that there are too many connections.
  """
  @spec refuse(:inet.socket()) :: :ok
  def refuse(socket),
    do: finish({:refused, 503, "too many connections; try again"}, socket, "GET")

  defp answer(socket, request, context) do
    with :ok <- own_host(request),
         :ok <- own_origin(request),
         {:ok, most, run} <- context.routes.(request.method, request.path),
         {:ok, length} <- Request.body_length(request, most),
         :ok <- Budget.reserve(context.budget, length),
         {:ok, request} <- Request.body(socket, request, length, context.limits) do
      {:answered, run(run, request)}
    else
      :not_found ->
        {:refused, 404, "there is nothing here"}

      {:methods, methods} ->
        {:refused, 405, "expected the method #{Enum.join(methods, " or ")}", methods}

      :full ->
        {:refused, 503, "too many pictures at once; try again"}

      other ->
        other
    end
  end

  # A page of elsewhere can have its own name lead to 127.0.0.1. The port may be another one, as in a tunnel.
  defp own_host(request) do
    if Map.get(request.headers, "host", "") =~ ~r/\A(127\.0\.0\.1|localhost)(:[0-9]{1,5})?\z/i,
      do: :ok,
      else: {:refused, 421, "expected the host 127.0.0.1 or localhost"}
  end

  # What another page sends says where it comes from. That is fine for a link to the page, and nothing else.
  defp own_origin(%{headers: headers, method: method}) do
    origin = headers["origin"]
    site = Map.get(headers, "sec-fetch-site", "same-origin")
    followed = method == "GET" and headers["sec-fetch-mode"] == "navigate"

    cond do
      origin != nil and String.downcase(origin) != String.downcase("http://#{headers["host"]}") ->
        {:refused, 403, "expected a request of this page, got one of another origin"}

      site in ["same-origin", "none"] or followed ->
        :ok

      true ->
        {:refused, 403, "expected a request of this page, got one of another site"}
    end
  end

  defp run(run, request) do
    run.(request)
  catch
    kind, reason ->
      Logger.error(Exception.format(kind, reason, __STACKTRACE__))
      refused(500, "the demo failed to answer; its log says why")
  end

  @doc """
  The answer that says what is wrong.
  """
  @spec refused(pos_integer(), String.t(), String.t()) :: answer()
  def refused(status, message, reason \\ "refused") do
    error = %{error: %{reason: reason, message: message}}
    {status, "application/json", [], JSON.encode(error)}
  end

  defp finish(:gone, socket, _method), do: :gen_tcp.close(socket)

  defp finish({:answered, answer}, socket, method) do
    write(socket, answer, method)
    :gen_tcp.close(socket)
  end

  defp finish({:refused, status, message, methods}, socket, method) do
    {status, type, [], body} = refused(status, message)
    leave(socket, {status, type, [{"Allow", Enum.join(methods, ", ")}], body}, method)
  end

  defp finish({:refused, 503, message}, socket, method) do
    {status, type, [], body} = refused(503, message, "overloaded")
    leave(socket, {status, type, [{"Retry-After", "1"}], body}, method)
  end

  defp finish({:refused, status, message}, socket, method),
    do: leave(socket, refused(status, message), method)

  defp write(socket, {status, type, headers, body}, method) do
    own = [{"Content-Type", type}, {"Content-Length", "#{IO.iodata_length(body)}"}]

    own =
      if List.keymember?(headers, "Cache-Control", 0),
        do: own,
        else: [{"Cache-Control", "no-store"} | own]

    lines = for {name, value} <- own ++ headers ++ @headers, do: [name, ": ", value, "\r\n"]
    body = if method == "HEAD", do: [], else: body

    :gen_tcp.send(socket, [
      "HTTP/1.1 #{status} #{Map.fetch!(@reasons, status)}\r\n",
      lines,
      "\r\n",
      body
    ])
  end

  defp leave(socket, answer, method) do
    with :ok <- write(socket, answer, method),
         :ok <- :gen_tcp.shutdown(socket, :write),
         do: drain(socket, System.monotonic_time(:millisecond) + @linger_ms, @linger_bytes)

    :gen_tcp.close(socket)
  end

  defp drain(socket, until, left) when left > 0 do
    with {:ok, bytes} <-
           :gen_tcp.recv(socket, 0, max(until - System.monotonic_time(:millisecond), 0)),
         do: drain(socket, until, left - byte_size(bytes))
  end

  defp drain(_socket, _until, _left), do: :ok
end
