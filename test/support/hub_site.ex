defmodule Image.ZeroShot.Test.HubSite do
  @moduledoc false

  # A hub on loopback that answers as the real one: small files from itself by way of a redirect,
  # large ones from a content network on another port, a status and a code for what is missing.
  #
  # It ends with the test that started it, and so does every connection.

  use GenServer

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias Image.ZeroShot.Packaging

  @commit "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
  @longest_head 16_384
  @timeout 5_000

  @enforce_keys [:pid, :url, :content_url]
  defstruct [:pid, :url, :content_url]

  def commit, do: @commit

  @doc """
  Starts a hub that has the embedded model as "acme/emoji-clip", or by another `:name`.

  `:intercept` gets each request and the answer that it would get, and returns the answer.
  """
  def start!(opts \\ []) do
    pid = start_supervised!(%{id: make_ref(), start: {__MODULE__, :start_link, [opts]}})
    {url, content_url} = GenServer.call(pid, :urls)
    %__MODULE__{pid: pid, url: url, content_url: content_url}
  end

  @doc "All requests so far, first to last, each with `:port_of`, `:method`, `:path` and `:head`."
  def requests(site), do: GenServer.call(site.pid, :requests)

  def start_link(opts), do: GenServer.start_link(__MODULE__, opts)

  @impl true
  def init(opts) do
    [hub, content] = for _ <- 1..2, do: listen()
    [url, content_url] = for socket <- [hub, content], do: url(socket)

    site = %{
      name: Keyword.get(opts, :name, "acme/emoji-clip"),
      intercept: Keyword.get(opts, :intercept, fn _request, answer -> answer end),
      files: files(),
      content_url: content_url,
      server: self()
    }

    for {name, socket} <- [hub: hub, content: content], do: accept(name, socket, site)
    {:ok, %{urls: {url, content_url}, requests: []}}
  end

  @impl true
  def handle_call(:urls, _from, state), do: {:reply, state.urls, state}
  def handle_call(:requests, _from, state), do: {:reply, Enum.reverse(state.requests), state}

  def handle_call({:request, request}, _from, state),
    do: {:reply, :ok, %{state | requests: [request | state.requests]}}

  defp listen do
    opts = [:binary, ip: {127, 0, 0, 1}, active: false, reuseaddr: true, backlog: 64]
    {:ok, socket} = :gen_tcp.listen(0, opts)
    socket
  end

  defp url(socket) do
    {:ok, port} = :inet.port(socket)
    "http://127.0.0.1:#{port}"
  end

  defp accept(name, socket, site) do
    spawn_link(fn -> accept_loop(name, socket, site) end)
  end

  # One answer a connection: what is asked for next comes on another one.
  defp accept_loop(name, socket, site) do
    {:ok, connection} = :gen_tcp.accept(socket)
    handler = spawn_link(fn -> receive(do: (:go -> serve(name, connection, site))) end)
    :ok = :gen_tcp.controlling_process(connection, handler)
    send(handler, :go)
    accept_loop(name, socket, site)
  end

  defp serve(name, connection, site) do
    with {:ok, head} <- head(connection, "") do
      [method, path, _version] = head |> String.split("\r\n", parts: 2) |> hd() |> String.split()
      request = %{port_of: name, method: method, path: path, head: head}
      :ok = GenServer.call(site.server, {:request, request})
      answer = site.intercept.(request, answer(name, path, site))
      :gen_tcp.send(connection, render(answer, method))
    end

    :gen_tcp.close(connection)
  end

  defp head(_connection, head) when byte_size(head) > @longest_head, do: :error

  defp head(connection, head) do
    if String.ends_with?(head, "\r\n\r\n") do
      {:ok, head}
    else
      with {:ok, more} <- :gen_tcp.recv(connection, 0, @timeout),
           do: head(connection, head <> more)
    end
  end

  defp render({status, headers, body}, method) do
    lines = for {name, value} <- headers, do: "#{name}: #{value}\r\n"
    length = "content-length: #{byte_size(body)}\r\nconnection: close\r\n"
    body = if method == "HEAD", do: "", else: body
    ["HTTP/1.1 #{status} -\r\n", lines, length, "\r\n", body]
  end

  defp answer(:content, path, site) do
    case Enum.find(site.files, &String.contains?(path, &1.hash)) do
      nil -> {403, [], "no"}
      file -> {200, [], file.content}
    end
  end

  defp answer(:hub, path, site) do
    {cache, resolve} = {cache_path(site, ""), "/#{site.name}/resolve/"}

    cond do
      String.starts_with?(path, cache) ->
        small(String.replace_prefix(path, cache, ""), site)

      String.starts_with?(path, resolve) ->
        [revision, name] =
          path |> String.replace_prefix(resolve, "") |> String.split("/", parts: 2)

        resolve(revision, name, site)

      # The Hub does not tell strangers which private repositories there are.
      true ->
        refused(401, "RepoNotFound")
    end
  end

  defp small(name, site) do
    case Enum.find(site.files, &(&1.name == name)) do
      nil -> refused(404, "EntryNotFound")
      file -> {200, facts(file), file.content}
    end
  end

  defp resolve(revision, name, site) do
    file = Enum.find(site.files, &(&1.name == name))

    cond do
      revision not in ["main", @commit] -> refused(404, "RevisionNotFound")
      file == nil -> refused(404, "EntryNotFound")
      file.large -> elsewhere(file, site)
      true -> {307, [{"location", cache_path(site, name)} | facts(file)], ""}
    end
  end

  defp cache_path(site, name), do: "/api/resolve-cache/models/#{site.name}/#{@commit}/#{name}"

  @doc "How the hub says no."
  def refused(status, code), do: {status, [{"x-error-code", code}], ~s({"error":"no"})}

  defp elsewhere(file, site) do
    headers = [
      {"x-repo-commit", @commit},
      {"etag", ~s("of-the-content-network")},
      {"x-linked-etag", ~s("#{file.hash}")},
      {"x-linked-size", byte_size(file.content)},
      {"location", "#{site.content_url}/xet/#{file.hash}?Signature=s1gn"}
    ]

    {302, headers, ""}
  end

  defp facts(file), do: [{"x-repo-commit", @commit}, {"etag", ~s("#{file.hash}")}]

  defp files do
    directory = Path.join(Packaging.root(), "priv/models/emoji-clip")

    for name <- File.ls!(directory), Path.extname(name) != ".md" do
      path = Path.join(directory, name)
      large = Path.extname(name) == ".safetensors"
      %{name: name, content: File.read!(path), large: large, hash: hash(path, large)}
    end
  end

  # As the Hub does: what git calls small files, SHA-256 of large ones.
  defp hash(path, false), do: word!("git", ["hash-object", "--no-filters", path])
  defp hash(path, true), do: word!("sha256sum", [path])

  defp word!(command, arguments) do
    command |> Packaging.run!(arguments, []) |> String.split() |> hd()
  end
end
