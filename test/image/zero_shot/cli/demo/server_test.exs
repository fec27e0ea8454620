defmodule Image.ZeroShot.DemoServerTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.RawHTTP
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.CLI.Demo.Server

  # What an answer waits for, so that a test decides how long a connection lasts.
  defp routes do
    test = self()

    fn
      method, "/" when method in ~w(GET HEAD) ->
        {:ok, 0, fn _request -> {200, "text/plain", [], "here"} end}

      _method, "/" ->
        {:methods, ~w(GET HEAD)}

      "GET", "/crash" ->
        {:ok, 0, fn _request -> raise "broken on purpose" end}

      _method, "/wait" ->
        {:ok, 1_000_000,
         fn _request ->
           send(test, {:waits, self()})
           receive do: (:go -> {200, "text/plain", [], "waited"})
         end}

      "GET", "/large" ->
        {:ok, 0, fn _request -> {200, "text/plain", [], :binary.copy("x", 50_000_000)} end}

      "POST", "/echo" ->
        {:ok, 1_000_000, fn request -> {200, "text/plain", [], request.body} end}

      _method, _path ->
        :not_found
    end
  end

  defp start(limits \\ %{}) do
    {:ok, server} = Server.start_link(routes(), 0, limits)
    on_exit(fn -> :gen_tcp.close(server.listener) end)
    server
  end

  defp status(port, method, path, opts \\ []) do
    with {status, _headers, _body} <- ask(port, method, path, opts), do: status
  end

  defp acceptor(server) do
    [{:acceptor, acceptor, _type, _modules}] = Supervisor.which_children(server.supervisor)
    acceptor
  end

  defp wait_for_handler do
    assert_receive {:waits, handler}
    handler
  end

  describe "an answer" do
    test "has its length, closes the connection, and lets a page load nothing from elsewhere" do
      %{port: port} = start()
      assert {200, headers, "here"} = ask(port, "GET", "/")
      assert headers["content-length"] == "4"
      assert headers["connection"] == "close"
      assert headers["x-content-type-options"] == "nosniff"
      assert headers["cross-origin-resource-policy"] == "same-origin"
      policy = headers["content-security-policy"]
      assert policy =~ "default-src 'none'"
      assert policy =~ "frame-ancestors 'none'"
      refute policy =~ ~r/unsafe|http|\*/
    end

    test "to HEAD has no body, and a query changes nothing" do
      %{port: port} = start()
      assert {200, %{"content-length" => "4"}, ""} = ask(port, "HEAD", "/")
      assert {200, _headers, "here"} = ask(port, "GET", "/?a=b")
    end

    test "to an unknown path is 404, and to an unknown method 405 with those allowed" do
      %{port: port} = start()
      assert status(port, "GET", "/no") == 404
      assert status(port, "GET", "/../../etc/passwd") == 404
      assert {405, %{"allow" => "GET, HEAD"}, _body} = ask(port, "DELETE", "/")
      assert {405, _headers, _body} = ask(port, "BREW", "/")
    end

    test "is 500 where the handler crashes, and its log says why" do
      %{port: port} = start()

      assert capture_log(fn -> assert status(port, "GET", "/crash") == 500 end) =~
               "broken on purpose"

      assert status(port, "GET", "/") == 200
    end
  end

  describe "where a request comes from" do
    test "a host that is not this machine is refused, as after DNS rebinding" do
      %{port: port} = start()

      for host <- [
            "example.com",
            "127.0.0.1.example.com",
            "127.0.0.1:1@example.com",
            "",
            "0.0.0.0",
            nil
          ],
          do: assert(status(port, "GET", "/", headers: [{"Host", host}]) == 421, inspect(host))

      # Another port is that of a tunnel.
      for host <- ["localhost:#{port}", "LOCALHOST", "127.0.0.1:1"],
          do: assert(status(port, "GET", "/", headers: [{"Host", host}]) == 200, host)
    end

    test "a foreign origin is refused" do
      %{port: port} = start()

      for origin <- [
            "http://example.com",
            "null",
            "http://127.0.0.1:1",
            "https://127.0.0.1:#{port}"
          ] do
        assert status(port, "POST", "/echo", headers: [{"Origin", origin}]) == 403
        assert status(port, "GET", "/", headers: [{"Origin", origin}]) == 403
      end

      own = [{"Origin", "http://127.0.0.1:#{port}"}]
      assert status(port, "POST", "/echo", headers: own) == 200
    end

    test "another site may link to the page and not use it" do
      %{port: port} = start()
      cross = [{"Sec-Fetch-Site", "cross-site"}]
      assert status(port, "GET", "/", headers: cross) == 403
      assert status(port, "GET", "/", headers: [{"Sec-Fetch-Mode", "navigate"} | cross]) == 200

      assert status(port, "POST", "/echo", headers: [{"Sec-Fetch-Mode", "navigate"} | cross]) ==
               403

      assert status(port, "GET", "/", headers: [{"Sec-Fetch-Site", "same-site"}]) == 403
      assert status(port, "GET", "/", headers: [{"Sec-Fetch-Site", "none"}]) == 200
    end

    test "only 127.0.0.1 is listened on" do
      server = start()
      assert {:ok, {{127, 0, 0, 1}, _port}} = :inet.sockname(server.listener)
      assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 2}, server.port, [])
    end
  end

  describe "a request that is wrong" do
    test "is refused by what is wrong with it" do
      %{port: port} = start()
      assert status(port, "GET", "/" <> String.duplicate("a", 20_000)) == 431
      assert status(port, "GET", "/", headers: [{"A", String.duplicate("a", 20_000)}]) == 431
      assert status(port, "GET", "/", headers: for(i <- 1..70, do: {"A#{i}", "b"})) == 431

      assert status(port, "GET", "/", headers: [{"Host", "127.0.0.1"}, {"host", "127.0.0.1"}]) ==
               400

      assert status(port, "POST", "/echo", headers: [{"Transfer-Encoding", "chunked"}]) == 411

      for length <- ["-1", "1x", "", "1, 1", "0x10"],
          do: assert(status(port, "POST", "/echo", headers: [{"Content-Length", length}]) == 400)
    end

    test "is refused where it is not HTTP/1.1" do
      %{port: port} = start()

      for {text, wanted} <- [
            {"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\r\n\r\n", 400},
            {"GET http://example.com/ HTTP/1.1\r\n\r\n", 400},
            {"OPTIONS * HTTP/1.1\r\n\r\n", 400},
            {"GET / HTTP/1.1\r\nno header\r\n\r\n", 400},
            {"GET / HTTP/2.0\r\n\r\n", 505}
          ] do
        socket = connect(port)
        :ok = :gen_tcp.send(socket, text)
        assert {^wanted, _headers, _body} = read(socket), inspect(text)
      end
    end
  end

  describe "a body" do
    test "comes whole, in whatever pieces" do
      %{port: port} = start()
      body = :crypto.strong_rand_bytes(900_000)
      assert {200, _headers, ^body} = ask(port, "POST", "/echo", body: body)

      socket = connect(port)
      [one, two] = ["one\r\n\r\n", "two"]
      head = request(port, "POST", "/echo", headers: [{"Content-Length", "10"}])
      :ok = :gen_tcp.send(socket, [head, one])
      :ok = :gen_tcp.send(socket, two)
      assert {200, _headers, "one\r\n\r\ntwo"} = read(socket)
    end

    test "that is too large gets its answer, also while it is being sent" do
      %{port: port} = start()
      assert status(port, "POST", "/echo", headers: [{"Content-Length", "1000001"}]) == 413

      assert status(port, "POST", "/echo",
               headers: [{"Content-Length", String.duplicate("9", 999)}]
             ) == 413

      assert status(port, "POST", "/echo", body: :binary.copy("x", 8_000_000)) == 413
      assert status(port, "GET", "/", body: "x") == 413
    end

    test "is asked for where the client waits for that" do
      %{port: port} = start()
      expect = fn what -> [{"Content-Length", "4"}, {"Expect", what}] end
      socket = connect(port)

      :ok =
        :gen_tcp.send(socket, request(port, "POST", "/echo", headers: expect.("100-Continue")))

      assert {:ok, "HTTP/1.1 100 Continue\r\n\r\n"} = :gen_tcp.recv(socket, 25)
      :ok = :gen_tcp.send(socket, "body")
      assert {200, _headers, "body"} = read(socket)

      assert status(port, "POST", "/echo", headers: expect.("tea")) == 417
      assert status(port, "POST", "/no", headers: expect.("100-continue")) == 404
    end
  end

  describe "a slow client" do
    test "gets 408 where the head or the body does not come in time" do
      %{port: port} = start(%{head_ms: 200, body_ms: 200})

      for text <- ["", "GET / HT", "GET / HTTP/1.1\r\nHo"] do
        socket = connect(port)
        :ok = :gen_tcp.send(socket, text)
        assert {408, _headers, _body} = read(socket)
      end

      socket = connect(port)

      :ok =
        :gen_tcp.send(socket, request(port, "POST", "/echo", headers: [{"Content-Length", "10"}]))

      assert {408, _headers, _body} = read(socket)
    end

    test "does not win time by sending a header now and then" do
      %{port: port} = start(%{head_ms: 500, headers: 1_000_000, head_bytes: 1_000_000})
      socket = connect(port)
      :ok = :gen_tcp.send(socket, "GET / HTTP/1.1\r\n")

      drip =
        Task.async(fn ->
          Enum.find(1..10_000, fn i ->
            Process.sleep(20)
            :gen_tcp.send(socket, "A#{i}: b\r\n") != :ok
          end)
        end)

      assert is_integer(await(drip))
      :gen_tcp.close(socket)
    end

    test "that does not read its answer is left" do
      %{port: port} = server = start(%{life_ms: 300})
      socket = connect(port)
      :ok = :gen_tcp.send(socket, request(port, "GET", "/large"))
      eventually(fn -> handlers(server) != [] end)
      eventually(fn -> handlers(server) == [] end)
      :gen_tcp.close(socket)
    end

    test "is ended after the life of a connection, whatever it waits for" do
      %{port: port} = start(%{life_ms: 100})
      assert ask(port, "GET", "/wait") == :closed
      assert status(port, "GET", "/") == 200
    end
  end

  defp handlers(server) do
    {:links, links} = server |> acceptor() |> Process.info(:links)
    Enum.filter(links, &(is_pid(&1) and &1 != server.supervisor))
  end

  describe "a flood" do
    test "of connections gets 503, and more of it is closed; then all is as before" do
      %{port: port} = start(%{connections: 2})
      waiting = for _ <- 1..2, do: Task.async(fn -> status(port, "GET", "/wait") end)
      handlers = for _ <- 1..2, do: wait_for_handler()

      assert {503, %{"retry-after" => "1"}, _body} = ask(port, "GET", "/")
      idle = for _ <- 1..4, do: connect(port)
      eventually(fn -> status(port, "GET", "/") == :closed end)
      Enum.each(idle, &:gen_tcp.close/1)

      for handler <- handlers, do: send(handler, :go)
      assert await_all(waiting) == [200, 200]
      eventually(fn -> status(port, "GET", "/") == 200 end)
    end

    test "of bodies gets 503, and a killed handler holds none" do
      %{port: port} = start(%{memory: 1_000_000})
      too_much = :binary.copy("x", 200_000)
      holds = Task.async(fn -> ask(port, "POST", "/wait", body: :binary.copy("x", 900_000)) end)
      handler = wait_for_handler()
      assert status(port, "POST", "/echo", body: too_much) == 503
      assert status(port, "POST", "/echo", body: "x") == 200

      kill(handler)
      assert await(holds) == :closed
      eventually(fn -> status(port, "POST", "/echo", body: too_much) == 200 end)
    end

    test "of fifty clients at once is answered" do
      %{port: port} = start()
      body = :binary.copy("x", 100_000)
      tasks = for _ <- 1..50, do: Task.async(fn -> status(port, "POST", "/echo", body: body) end)
      assert Enum.uniq(await_all(tasks)) == [200]
    end
  end

  describe "a killed process" do
    test "that handles a request closes it, and no other" do
      %{port: port} = start()
      [one, other] = for _ <- 1..2, do: Task.async(fn -> ask(port, "GET", "/wait") end)
      [first, second] = for _ <- 1..2, do: wait_for_handler()
      kill(first)
      send(second, :go)
      assert [:closed, {200, _headers, "waited"}] = Enum.sort([await(one), await(other)])
    end

    test "that accepts is started again on the same port, many times" do
      %{port: port} = server = start()
      waiting = Task.async(fn -> ask(port, "GET", "/wait") end)
      handler = wait_for_handler()
      monitor = Process.monitor(handler)

      for _ <- 1..20 do
        server |> acceptor() |> kill()
        eventually(fn -> is_pid(acceptor(server)) end)
        assert status(port, "GET", "/") == 200
      end

      # Its handlers end with it: the next one could not count them.
      assert_receive {:DOWN, ^monitor, :process, ^handler, _reason}
      assert await(waiting) == :closed
    end

    test "that started the server ends it" do
      test = self()

      {owner, _monitor} =
        spawn_monitor(fn ->
          {:ok, server} = Server.start_link(fn _method, _path -> :not_found end, 0)
          send(test, {:server, server})
          Process.sleep(:infinity)
        end)

      assert_receive {:server, %{port: port, supervisor: supervisor}}
      assert status(port, "GET", "/") == 404
      # The supervisor reports how it ended.
      capture_log(fn ->
        await_end(supervisor, fn -> kill(owner) end)
        eventually(fn -> match?({:error, _}, :gen_tcp.connect({127, 0, 0, 1}, port, [])) end)
      end)
    end

    test "is not needed to stop the server" do
      server = start()
      assert Server.stop(server) == :ok
      assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 1}, server.port, [])
    end
  end
end
