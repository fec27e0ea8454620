defmodule Image.ZeroShot.Test.RawHTTP do
  @moduledoc false

  # Requests byte by byte, also wrong ones, and the answers to them.

  @patience 30_000

  def connect(port) do
    options = [:binary, active: false, packet: :raw]
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, options, @patience)
    socket
  end

  @doc """
  Sends a request, and returns `{status, headers, body}`, or `:closed` if there was no answer.
  """
  def ask(port, method, path, opts \\ []) do
    socket = connect(port)
    :ok = :gen_tcp.send(socket, request(port, method, path, opts))
    read(socket)
  end

  def request(port, method, path, opts \\ []) do
    body = Keyword.get(opts, :body, "")
    own = [{"Host", "127.0.0.1:#{port}"}, {"Content-Length", "#{IO.iodata_length(body)}"}]
    given = Keyword.get(opts, :headers, [])
    headers = Enum.reject(own, fn {name, _value} -> List.keymember?(given, name, 0) end) ++ given
    # A header that is `nil` is left out.
    lines = for {name, value} <- headers, value != nil, do: [name, ": ", value, "\r\n"]
    [method, " ", path, " HTTP/1.1\r\n", lines, "\r\n", body]
  end

  @doc """
  Reads until the server closes.
  """
  def read(socket) do
    answer = read(socket, [])
    :gen_tcp.close(socket)

    case answer do
      "" -> :closed
      answer -> parse(answer)
    end
  end

  defp read(socket, parts) do
    case :gen_tcp.recv(socket, 0, @patience) do
      {:ok, part} -> read(socket, [part | parts])
      {:error, reason} when reason != :timeout -> parts |> Enum.reverse() |> IO.iodata_to_binary()
    end
  end

  defp parse("HTTP/1.1 " <> <<status::binary-size(3), rest::binary>>) do
    [head, body] = String.split(rest, "\r\n\r\n", parts: 2)
    [_reason | lines] = String.split(head, "\r\n")

    headers =
      for line <- lines, into: %{} do
        [name, value] = String.split(line, ": ", parts: 2)
        {String.downcase(name), value}
      end

    {String.to_integer(status), headers, body}
  end
end
